"""Labels of Linux security modules, by a verified procfs: AppArmor's profile, SELinux's context, taken at execve.

A runtime that writes them by a path can be led to a file that takes the words and does nothing (CVE-2019-19921,
CVE-2025-52881): the program then runs without its label and nobody sees.

Source: Documentation/admin-guide/LSM, AppArmor and SELinux; proc_pid_attr(5).
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.security.procfs import handle_of, open_own, write_own

APPARMOR, SELINUX = "apparmor", "selinux"
UNCONFINED = "unconfined"
_MOST = 4096


class LabelProgram(Operation):
    """Has the program run under a label."""

    __slots__ = ("label", "module")
    stage = "final"
    label: str
    module: str

    def describe(self) -> str:
        """What will happen."""
        return f"label the program {self.label!r} ({self.module})"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT: AppArmor has no such profile; EINVAL: SELinux knows no such context; EACCES, EPERM: a
                policy forbids it.
            UnsafePathError: something is mounted over the file.
        """
        # Where several modules are on, attr/exec is the first one's.
        names = (f"attr/{self.module}/exec", "attr/exec")
        try:
            write_own(site, names, f"exec {self.label}" if self.module == APPARMOR else self.label)
        except OSError as error:
            if error.errno == errno.ENOENT and self.module == APPARMOR:
                error.add_note(f"AppArmor has no profile {self.label!r}: load it with apparmor_parser first")
            raise


def parse_current(text: str) -> tuple[str, str]:
    """Return profile and mode of what AppArmor tells of a process: only the exact word means unconfined.

    >>> parse_current("kp (enforce)"), parse_current("unconfined"), parse_current("unconfined_app (complain)")
    (('kp', 'enforce'), ('unconfined', ''), ('unconfined_app', 'complain'))
    """
    text = text.strip().rstrip("\0").strip()
    profile, blank, mode = text.rpartition(" (")
    return (profile, mode.removesuffix(")")) if blank and mode.endswith(")") else (text, "")


def read_label(site: Site, module: str) -> str:
    """Return the calling thread's own label, as the module tells it.

    Raises:
        OSError: EINVAL: no module tells one; ENOENT.
        UnsafePathError: something is mounted over the file.
    """
    with handle_of(site) as handle:
        try:
            fd = open_own(handle, f"attr/{module}/current", os.O_RDONLY)
        except FileNotFoundError:
            fd = open_own(handle, "attr/current", os.O_RDONLY)
        try:
            return os.read(fd, _MOST).rstrip(b"\0\n").decode("utf-8", "backslashreplace")
        finally:
            os.close(fd)
