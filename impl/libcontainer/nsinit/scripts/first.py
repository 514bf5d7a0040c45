"""What nsinit does before it loads anything of its package: it begins again where no container can overwrite it.

Loaded under its bare name by `nsinit-python`, from the directory that this file is in; so it may import nothing but
what is built into the interpreter. Each module more would be paid for twice.

A process on its way into a container still runs the host's interpreter. Whoever is in the container, or the program
itself if it is /proc/self/exe, can get hold of that file through /proc/PID/exe and overwrite it. Here the interpreter
is executed again from a detached copy of its mount, which is read-only and in no mount namespace, so that nobody can
make it writable. Where the kernel lacks mount_setattr(2), or the caller the rights, it is executed from a copy in
memory that is sealed: that takes longer, as 7 MB are copied.

To start twice costs as much as all that a container's start does beside. So the shell half of the command lets the
interpreter begin in a mount namespace of its own, and here all mounts in that are made read-only, and it is left: then
nothing is in that namespace any more, and the mount that the interpreter was executed from is detached like the other.

Source: CVE-2019-5736; setns(2); mount_namespaces(7); open_tree(2); mount_setattr(2); memfd_create(2), "File sealing";
fcntl(2), F_ADD_SEALS.
"""

import posix
import sys

ENTERING = ("create", "run", "exec", "exec-2014")  # what makes processes that enter a container
# The global options that take the next word as their value.
VALUED = ("root", "log", "log-format", "cgroup-manager", "rootless", "criu")

_OPEN_TREE, _MOUNT_SETATTR = 428, 442  # the numbers that all machines share
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_CLONE = 1
_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4
_ATTRIBUTES = (_READ_ONLY | _NO_SUID | _NO_DEVICES).to_bytes(8, sys.byteorder) + bytes(24)
_REMOUNT_READ_ONLY = 1 | 32 | 4096  # MS_RDONLY, MS_REMOUNT, MS_BIND
_RTLD_NOW = 2

# What the shell half says, and the descriptors that it leaves.
_LEAVE = "leave=7"
_LOCALE = "locale=unset"  # LC_ALL is there for that half alone
_NAMESPACE, _ROOT, _HERE = 7, 8, 9
_NEW_MOUNTS = 0x20000

EXE = "/proc/self/exe"
_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # of sealing, shrinking, growing, writing
_EXECUTABLE = 0x10  # MFD_EXEC, Linux 6.3; where the flag is not known files are executable anyway
_NAME = "interpreter"
_PIECE = 1 << 26


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
    system_call = dlsym(dlopen(None, _RTLD_NOW), "syscall")  # type: ignore[arg-type]  # the stubs forget None
    fd: int = call_function(system_call, (_OPEN_TREE, _AT_FDCWD, path, _CLONE | posix.O_CLOEXEC))
    if fd < 0:
        return -1
    if call_function(system_call, (_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, _ATTRIBUTES, len(_ATTRIBUTES))):
        posix.close(fd)
        return -1
    return fd


def copy_sealed(path: str = "") -> int:
    """A sealed copy of a file in memory, by default of the interpreter; close-on-exec, and the caller's to close.

    Raises:
        OSError: the file can't be read, or there is no memory.
    """
    from fcntl import fcntl  # not built into every interpreter

    source = posix.open(path or EXE, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        copy = _open_memory()
        left = posix.fstat(source).st_size
        while left > 0:
            done = posix.sendfile(copy, source, None, min(left, _PIECE))
            if not done:
                break
            left -= done
        fcntl(copy, _ADD_SEALS, _SEALS)
    finally:
        posix.close(source)
    return copy


def _open_memory() -> int:
    flags = posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING
    try:
        return posix.memfd_create(_NAME, flags | _EXECUTABLE)
    except OSError:
        return posix.memfd_create(_NAME, flags)


def is_protected() -> bool:
    """Whether this process runs from either: a copy in memory, or a read-only mount that is not in its namespace."""
    try:
        name = posix.readlink(EXE)
        if name.startswith(f"/memfd:{_NAME}"):
            return True
        if not posix.statvfs(EXE).f_flag & posix.ST_RDONLY:
            return False
        return _find_mount(EXE) != _find_mount(name)
    except OSError:  # no procfs: what begins again says what comes of it
        return False


def _find_mount(path: str) -> bytes:
    # The number of the mount that a path leads to in this namespace; nothing if it leads nowhere, as it is then on one
    # of another.
    try:
        fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        about = posix.open(f"/proc/self/fdinfo/{fd}", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            return posix.read(about, 4096).partition(b"mnt_id:")[2].split(b"\n")[0]
        finally:
            posix.close(about)
    finally:
        posix.close(fd)


def leave_namespace() -> None:
    """Makes the mounts of a namespace that nobody else has read-only, and goes back to where the command was called.

    That is by mount namespace, root and working directory. What can't be made read-only `is_protected` sees. Without
    CAP_SYS_CHROOT there is no way back: then it stays, all mounts as they were, and mounts are propagated both ways.

    Raises:
        OSError: what setns(2), fchdir(2) or chroot(2) give.
    """
    if f"-X{_LEAVE}" not in sys.orig_argv:
        return
    sys.orig_argv.remove(f"-X{_LEAVE}")  # what begins again is there already
    _unset_locale()
    if _may_change_root():
        _make_read_only()
        _enter_namespace(_NAMESPACE)
        posix.fchdir(_ROOT)
        posix.chroot(".")
        posix.fchdir(_HERE)
    for fd in (_NAMESPACE, _ROOT, _HERE):
        posix.close(fd)


def _unset_locale() -> None:
    if f"-X{_LOCALE}" in sys.orig_argv:
        sys.orig_argv.remove(f"-X{_LOCALE}")
        posix.environ.pop(b"LC_ALL", None)
        posix.unsetenv(b"LC_ALL")


def _may_change_root() -> bool:
    try:
        posix.chroot("/")  # where it is
    except PermissionError:
        return False
    return True


def _make_read_only() -> None:
    # The interpreter is below the root, on whatever mount. Before Linux 5.12 that of the root alone can be had.
    try:
        from _ctypes import call_function, dlopen, dlsym  # as above
    except ImportError:
        return
    libc = dlopen(None, _RTLD_NOW)  # type: ignore[arg-type]  # as above
    given = (_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, _ATTRIBUTES, len(_ATTRIBUTES))
    if call_function(dlsym(libc, "syscall"), given):
        call_function(dlsym(libc, "mount"), (None, b"/", None, _REMOUNT_READ_ONLY, None))


def _enter_namespace(fd: int) -> None:
    try:
        enter = posix.setns  # type: ignore[attr-defined]  # since Python 3.12
    except AttributeError:
        from _ctypes import call_function, dlopen, dlsym  # as above

        if call_function(dlsym(dlopen(None, _RTLD_NOW), "setns"), (fd, _NEW_MOUNTS)):  # type: ignore[arg-type]
            raise OSError("the mount namespace can't be entered again") from None
        return
    enter(fd, _NEW_MOUNTS)


def begin_again() -> None:
    """Executes this program again from a protected interpreter; returns never.

    Raises:
        OSError: neither can be had.
    """
    arguments = [sys.executable, *sys.orig_argv[1:]]
    fd = open_read_only(EXE.encode())
    if fd >= 0:
        try:
            posix.execve(fd, arguments, posix.environ)
        except OSError:
            posix.close(fd)
    posix.execve(copy_sealed(), arguments, posix.environ)


def begin() -> None:
    """Begins again if the subcommand needs it and that can be had; what can't is told by `main`, which tries again."""
    leave_namespace()
    if find_command(sys.argv[1:]) in ENTERING and not is_protected():
        try:
            begin_again()
        except OSError:
            return
