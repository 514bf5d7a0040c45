"""Whether an unbindable mount is unbindable in a copy of the mount namespace; prints its type there. Run as root."""

import ctypes
import os
import tempfile

CLONE_NEWNS, MS_UNBINDABLE = 0x20000, 1 << 17
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *words: object) -> None:
    if getattr(libc, name)(*words):
        raise OSError(ctypes.get_errno(), name)


def tags_at(path: str) -> str:
    with open("/proc/self/mountinfo") as lines:
        (fields,) = [line.split() for line in lines if line.split()[4] == path]
    return " ".join(fields[6 : fields.index("-")]) or "private"


path = tempfile.mkdtemp()
call("mount", b"none", path.encode(), b"tmpfs", 0, None)
call("mount", None, path.encode(), None, MS_UNBINDABLE, None)
assert tags_at(path) == "unbindable"
if os.fork() == 0:
    call("unshare", CLONE_NEWNS)
    print(tags_at(path), flush=True)
    os._exit(0)
os.wait()
call("umount2", path.encode(), 2)
os.rmdir(path)
