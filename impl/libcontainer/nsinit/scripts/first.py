"""What nsinit does before it loads anything of its package: it begins again where no container can overwrite it.

Loaded under its bare name by `nsinit-python`, from the directory that this file is in; so it may import nothing but
what is built into the interpreter. Each module more would be paid for twice.

A process on its way into a container still runs the host's interpreter. Whoever is in the container, or the program
itself if it is /proc/self/exe, can get hold of that file through /proc/PID/exe and overwrite it. Here the interpreter
is executed again from a detached copy of its mount, which is read-only and in no mount namespace, so that nobody can
make it writable. `process.sealing` has the dearer road for kernels without mount_setattr(2) and callers without rights,
a sealed copy in memory; it is taken by `main` where this one was not.

Source: CVE-2019-5736; open_tree(2); mount_setattr(2).
"""

import posix
import sys

ENTERING = ("create", "run", "exec", "exec-2014")  # what makes processes that enter a container
# The global options that take the next word as their value.
VALUED = ("root", "log", "log-format", "cgroup-manager", "rootless", "criu")

_OPEN_TREE, _MOUNT_SETATTR = 428, 442  # the numbers that all machines share
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_CLONE = 1
_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4
_ATTRIBUTES = (_READ_ONLY | _NO_SUID | _NO_DEVICES).to_bytes(8, sys.byteorder) + bytes(24)
_RTLD_NOW = 2


def find_command(words: list[str]) -> str:
    """The subcommand of a command line: its first word that is no global option and no value of one."""
    position = 0
    while position < len(words):
        word = words[position]
        if not word.startswith("-"):
            return word
        position += 2 if word.lstrip("-") in VALUED else 1
    return ""


def open_read_only(path: bytes) -> int:
    """A descriptor of a file on a read-only detached copy of its mount, close-on-exec; -1 where that can't be had."""
    try:
        from _ctypes import call_function, dlopen, dlsym  # ctypes itself would cost half an interpreter's start
    except ImportError:
        return -1
    system_call = dlsym(dlopen(None, _RTLD_NOW), "syscall")
    fd: int = call_function(system_call, (_OPEN_TREE, _AT_FDCWD, path, _CLONE | posix.O_CLOEXEC))
    if fd < 0:
        return -1
    if call_function(system_call, (_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, _ATTRIBUTES, len(_ATTRIBUTES))):
        posix.close(fd)
        return -1
    return fd


def is_read_only() -> bool:
    """Whether this process runs from such a file: it has no path, and nobody can open it to write."""
    exe = "/proc/self/exe"
    try:
        return posix.readlink(exe) == "/" and bool(posix.statvfs(exe).f_flag & posix.ST_RDONLY)
    except OSError:  # no procfs: `main` says what comes of it
        return False


def begin() -> None:
    """Begins this program again from a read-only interpreter, if its subcommand needs it and that can be had."""
    if find_command(sys.argv[1:]) not in ENTERING or is_read_only():
        return
    fd = open_read_only(b"/proc/self/exe")
    if fd >= 0:
        try:
            posix.execve(fd, [sys.executable, *sys.orig_argv[1:]], posix.environ)
        except OSError:  # `main` takes the other road
            posix.close(fd)
