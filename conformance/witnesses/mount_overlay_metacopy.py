"""Which attribute marks a file of which only the metadata was copied up; prints the names. Run as root."""

import ctypes
import json
import os
import tempfile

MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, fstype: str, data: str) -> None:
    """Mount, or raise."""
    if libc.mount(source.encode(), target.encode(), fstype.encode(), 0, data.encode()):
        raise OSError(ctypes.get_errno(), f"mount of {fstype}")


with tempfile.TemporaryDirectory() as base:
    mount("x", base, "tmpfs", "mode=755")
    try:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")
        with open(f"{base}/lower/file", "w") as file:
            file.write("content")
        layers = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
        mount("x", f"{base}/merged", "overlay", f"{layers},metacopy=on")
        os.chmod(f"{base}/merged/file", 0o600)
        print(json.dumps([name for name in os.listxattr(f"{base}/upper/file") if name.endswith(".metacopy")]))
    finally:
        libc.umount2(base.encode(), MNT_DETACH)
