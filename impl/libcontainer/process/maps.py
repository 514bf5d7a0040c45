"""ID maps of a user namespace, written from outside: by the runtime itself, or without rights by newuidmap, newgidmap.

Source: user_namespaces(7), "Defining user and group ID mappings" and "The /proc/pid/setgroups file"; newuidmap(1).
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.filesystem import filesystem_type
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import IdMapping

_PROC_MAGIC = 0x9FA0
_PROGRAMS = {"uid_map": "newuidmap", "gid_map": "newgidmap"}
_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin")
_RESTRICTION = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"


def format_map(mappings: tuple[IdMapping, ...]) -> str:
    """The text of a map file: a line a range."""
    return "".join([f"{one.container_id} {one.host_id} {one.size}\n" for one in mappings])


class WriteIdMaps(Operation):
    """Writes the ID maps of the process's new user namespace.

    `helper`: by the programs newuidmap and newgidmap, as the caller may map no more than itself. `groups`: whether
    supplementary groups can be set inside; a map that the caller writes without rights needs them denied.
    """

    __slots__ = ("gid_mappings", "groups", "helper", "uid_mappings")
    stage = "host"
    gid_mappings: tuple[IdMapping, ...]
    groups: bool
    helper: bool
    uid_mappings: tuple[IdMapping, ...]

    def describe(self) -> str:
        """What will happen."""
        how = "by newuidmap and newgidmap" if self.helper else "into /proc"
        return f"write ID maps {how}: users {_shown(self.uid_mappings)}; groups {_shown(self.gid_mappings)}" + (
            "" if self.groups else "; no supplementary groups"
        )

    def do(self, site: Site) -> None:
        """Does it; errors as `write`."""
        pid = site.found["pid"]
        assert isinstance(pid, int)
        self.write(pid)

    def write(self, pid: int) -> None:
        """Writes them for a process.

        Raises:
            OSError: EPERM: an ID that the caller may not map; EINVAL: ranges that overlap; what posix_spawn gives.
            RuntimeError: newuidmap or newgidmap refused.
        """
        directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if filesystem_type(directory) != _PROC_MAGIC:
                raise ValueError("/proc is not a proc filesystem: no ID map is written there")
            if not self.groups:
                _write(directory, "setgroups", "deny", pid)
            for file, mappings in (("gid_map", self.gid_mappings), ("uid_map", self.uid_mappings)):
                if self.helper:
                    run_helper(file, pid, mappings)
                else:
                    _write(directory, file, format_map(mappings), pid)
        finally:
            os.close(directory)


def _shown(mappings: tuple[IdMapping, ...]) -> str:
    return ", ".join(f"{one.container_id} is {one.host_id} ({one.size})" for one in mappings)


def _write(directory: int, file: str, text: str, pid: int) -> None:
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        named = OSError(error.errno, error.strerror, f"/proc/{pid}/{file}")
        named.add_note(f"write({text!r})")
        if error.errno == errno.EPERM:
            named.add_note(Remedy(remedy()))
        raise named from None


def remedy(restriction: str = _RESTRICTION) -> str:
    """What helps when the kernel lets nobody map IDs: AppArmor may be why, and says so in one place only."""
    try:
        with open(restriction, encoding="ascii") as file:
            restricted = file.read().strip() == "1"
    except OSError:
        restricted = False
    if restricted:
        return (
            f"AppArmor denies user namespaces to programs without a profile that allows them ({restriction} is 1): "
            "give this program a profile with `userns,`, or run without a user namespace and confine by Landlock alone"
        )
    return "without CAP_SETUID only one's own ID can be mapped, or those of /etc/subuid by newuidmap"


def run_helper(file: str, pid: int, mappings: tuple[IdMapping, ...]) -> None:
    """Runs newuidmap or newgidmap.

    Raises:
        FileNotFoundError: it is not installed.
        RuntimeError: it refused; its words are on standard error.
    """
    name = _PROGRAMS[file]
    program = next((path for place in _DIRECTORIES if os.access(path := f"{place}/{name}", os.X_OK)), None)
    if program is None:
        raise FileNotFoundError(errno.ENOENT, f"{name} is not installed (Debian: package uidmap)", name)
    words = [str(number) for one in mappings for number in (one.container_id, one.host_id, one.size)]
    child = os.posix_spawn(program, [name, str(pid), *words], {"PATH": ":".join(_DIRECTORIES)})
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(
            f"{name} {pid} {' '.join(words)} exited with {os.waitstatus_to_exitcode(status)}: are these ranges in "
            f"/etc/sub{file[:3]}?"
        )
