"""How tab, newline, START and STOP are echoed with ECHOCTL set, IXON and OPOST clear; prints them as a list."""

import json
import os
import select
import termios

master, slave = os.openpty()
attributes = termios.tcgetattr(slave)
attributes[0] &= ~termios.IXON
attributes[1] &= ~termios.OPOST
attributes[3] |= termios.ECHO | termios.ECHOCTL
termios.tcsetattr(slave, termios.TCSANOW, attributes)
os.write(master, b"\t\n\x11\x13")
echoed = b""
while select.select([master], [], [], 1)[0]:
    echoed += os.read(master, 100)
print(json.dumps([echoed.decode()]))
