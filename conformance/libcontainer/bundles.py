"""Bundles: a directory a runtime, each with a root of its own that holds busybox."""

from __future__ import annotations

import shutil
from pathlib import Path

# What tests run in containers, by busybox's names.
# fmt: off
APPLETS = (
    "cat", "chmod", "date", "dd", "df", "echo", "env", "false", "grep", "head", "hostname", "id", "ionice", "ip",
    "kill", "ls", "mkdir", "mknod", "mount", "nice", "printf", "ps", "pwd", "readlink", "rm", "sh", "sleep", "stat",
    "sysctl", "test", "touch", "tr", "true", "tty", "umount", "uname", "wc",
)
# fmt: on


def make_rootfs(at: Path) -> None:
    """Make a root with busybox under the names that tests use."""
    for name in ("bin", "proc", "dev", "sys", "etc", "tmp", "data"):
        (at / name).mkdir(parents=True)
    found = shutil.which("busybox")
    assert found is not None, "the profile `runtimes` has busybox"
    shutil.copy(found, at / "bin/busybox")
    for name in APPLETS:
        (at / "bin" / name).symlink_to("busybox")
