"""What openpty says when kernel.pty.max is reached; prints the errno's name. Run as root."""

import errno
import os

folder = "/proc/sys/kernel/pty"
with open(f"{folder}/max") as file:
    before = file.read()
with open(f"{folder}/nr") as file:
    count = file.read()
with open(f"{folder}/max", "w") as file:
    file.write(count)
try:
    os.openpty()
except OSError as error:
    print(errno.errorcode[error.errno])
finally:
    with open(f"{folder}/max", "w") as file:
        file.write(before)
