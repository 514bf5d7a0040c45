"""Whether a read of 3 bytes returns while MIN is 5 and 3 bytes wait; prints [true, "abc"]."""

import json
import os
import select
import termios
import tty

master, slave = os.openpty()
tty.setraw(slave)
attributes = termios.tcgetattr(slave)
attributes[6][termios.VMIN] = 5
attributes[6][termios.VTIME] = 0
termios.tcsetattr(slave, termios.TCSANOW, attributes)
said, saying = os.pipe()
if os.fork() == 0:
    os.write(saying, os.read(slave, 3))
    os._exit(0)
os.write(master, b"abc")
early = bool(select.select([said], [], [], 1)[0])
if not early:
    os.write(master, b"de")
print(json.dumps([early, os.read(said, 10).decode()]))
os.wait()
