"""Whether pid_max that is written in a new PID namespace is read outside too; prints false. Run as root."""

import ctypes
import json
import os

CLONE_NEWPID = 0x20000000
FILE = "/proc/sys/kernel/pid_max"


def read() -> str:
    with open(FILE, encoding="ascii") as file:
        return file.read().strip()


if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWPID):
    raise OSError(ctypes.get_errno(), "unshare")
if os.fork() == 0:
    with open(FILE, "w", encoding="ascii") as file:
        file.write("5000")
    os._exit(0 if read() == "5000" else 1)
if os.wait()[1]:
    raise SystemExit("5000 was not written there")
print(json.dumps(read() == "5000"))
