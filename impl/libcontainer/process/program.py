"""The container's program: found before the container counts as created, entered as the last step.

The working directory is checked once it is entered: where its name can't be found from the root, it is outside,
whatever way led there.

Source: execve(2), getcwd(2); OCI runtime specification 1.3, config.md, "Process".
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal makes enums of its constants when it is imported: 4 ms
import errno
import os
import stat

from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.process.channel import Channel

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD_BYTES = 1 << 20
_HEAD_BYTES = 256
_SYMLINKS_NO_CONTROL = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_REAL_TIME = range(32, 65)
_UNCHANGEABLE = (9, 19)


def environment(entries: tuple[str, ...]) -> dict[str, str]:
    """Environment entries as a mapping; the later of two for one name holds.

    Raises:
        ValueError: one without `=`, or with an empty name or a NUL byte.
    """
    found = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name or not equals or "\0" in entry:
            raise ValueError(f"environment entry {entry!r} is not NAME=VALUE")
        found[name] = value
    return found


class EnterDirectory(Operation):
    """Enters the program's working directory.

    Attributes:
        makes: whether it is made if it is not there; in a container that is at work it would be nobody's wish.
    """

    __slots__ = ("makes", "path")
    stage = "final"
    makes: bool
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"enter {self.path}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT: it is not there, or not below the root; EROFS: it can't be made; ENOTDIR.
        """
        try:
            os.chdir(self.path)
        except FileNotFoundError:
            if not self.makes:
                raise
            os.makedirs(self.path, 0o755, exist_ok=True)
            os.chdir(self.path)
        except PermissionError:
            site.found["directory"] = self.path  # perhaps the user that the process becomes may
            return
        check_directory(self.path)


def check_directory(path: str) -> None:
    """Makes sure that the working directory is below the root.

    Raises:
        OSError: ENOENT: it is not.
    """
    try:
        found = os.getcwd()
    except FileNotFoundError:
        found = ""
    if not found.startswith("/"):
        error = OSError(errno.ENOENT, "the working directory is outside the container's root", path)
        error.add_note("getcwd(2) " + (f"gives {found!r}" if found else "finds no name for it"))
        raise error


class FindProgram(Operation):
    """Finds the program in the container, by its PATH, and the home directory of its user.

    Attributes:
        cwd: the working directory, which is entered later: relative names begin there.
    """

    __slots__ = ("cwd", "name", "path", "uid")
    stage = "root"
    cwd: str
    name: str
    path: str
    uid: int

    def describe(self) -> str:
        """What will happen."""
        return f"find {self.name}" + ("" if "/" in self.name else f" in {self.path}")

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT: not found, with where; EACCES: not executable.
        """
        site.found["program"] = find_program(self.name, self.path, self.cwd)
        site.found["home"] = read_home(self.uid)


def find_program(name: str, path: str, cwd: str = "/") -> str:
    """The path of a program, from the root or from the working directory.

    Raises:
        OSError: ENOENT: there is none; EACCES: it is there, but is no program.
    """
    if "/" in name:
        check_program(name, cwd)
        return name
    refused: OSError | None = None
    for place in path.split(":"):
        candidate = f"{place or '.'}/{name}"
        try:
            check_program(candidate, cwd)
        except OSError as error:
            if isinstance(error, PermissionError):
                refused = error
            continue
        return candidate
    if refused is not None:
        raise refused
    missing = FileNotFoundError(errno.ENOENT, "executable file not found in $PATH", name)
    missing.add_note(f"PATH={path}")
    raise missing


def check_program(path: str, cwd: str) -> None:
    """Refuses what can't be executed in a working directory, as execve(2) would."""
    try:
        found = os.stat(path if path.startswith("/") else f"{cwd}/{path}")
    except OSError as error:
        error.filename = path
        if not path.startswith("/"):
            error.add_note(f"the working directory is {cwd}")
        raise
    if stat.S_ISDIR(found.st_mode):
        raise PermissionError(errno.EACCES, "permission denied: it is a directory", path)
    if not found.st_mode & 0o111:
        raise PermissionError(errno.EACCES, "permission denied: it is not executable", path)


def read_home(uid: int, passwd: str = "/etc/passwd") -> str:
    """The home directory of a user by the container's own user database, which is bounded and must be a plain file."""
    try:
        fd = os.open(passwd, _SYMLINKS_NO_CONTROL)
    except OSError:
        return "/"
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "/"
        text = os.read(fd, _PASSWD_BYTES).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == str(uid) and fields[5].startswith("/"):
            return fields[5]
    return "/"


class Announce(Operation):
    """Says that all is done but the program itself: afterwards a filter may forbid to say anything.

    Signals are as a new process has them from here on, and a working directory that only the process's user may enter
    is entered.
    """

    __slots__ = ()
    stage = "final"

    def describe(self) -> str:
        """What will happen."""
        return "reset signals, and announce the program"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EACCES, ENOENT of the working directory; EPIPE: the runtime is gone.
        """
        directory, channel = site.found.get("directory"), site.found["channel"]
        if isinstance(directory, str):
            os.chdir(directory)
            check_directory(directory)
        reset_signals()
        assert isinstance(channel, Channel)
        refused = site.found.get("refused")
        channel.send(0, "program", {"refused": refused} if refused else None)


class BecomeProgram(Operation):
    """Executes the program."""

    __slots__ = ("args", "env")
    stage = "final"
    args: tuple[str, ...]
    env: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"execute {' '.join(self.args)}"

    def do(self, site: Site) -> None:
        """Does it, and returns only if that failed.

        Raises:
            OSError: what execve(2) or the filter gives.
            ValueError: an environment entry without `=`.
        """
        program, home = site.found["program"], site.found.get("home")
        assert isinstance(program, str)
        env = environment(self.env)
        if not env.get("HOME"):
            env["HOME"] = str(home or "/")
        if env.get("LISTEN_PID") == "":
            env["LISTEN_PID"] = str(os.getpid())  # see activation: known here alone
        load = site.found.get("filter")
        if callable(load):
            load()  # as the last thing: it may forbid all of the above
        try:
            os.execve(program, self.args, env)
        except OSError as error:
            raise explain(error, program) from None


def reset_signals() -> None:
    """Gives every signal its default action, and blocks none."""
    for number in (*range(1, 32), *_REAL_TIME):
        if number not in _UNCHANGEABLE:
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # libc keeps two of the real-time signals for itself
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])


def explain(error: OSError, program: str) -> OSError:
    """The error of execve(2) with what is not in it: which file it was that is missing."""
    named = OSError(error.errno, error.strerror, program)
    named.add_note(f"execve({program!r})")
    if error.errno == errno.ENOENT:
        interpreter = read_interpreter(program)
        if interpreter:
            named.add_note(f"its interpreter {interpreter!r} is missing")
    elif error.errno == errno.ENOEXEC:
        named.add_note("neither a program of this machine nor a script that begins with #!")
    return named


def read_interpreter(program: str) -> str:
    """The interpreter that a script or a program names; nothing if it names none, or can't be read."""
    try:
        fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        head = os.read(fd, 64)
        if head.startswith(b"#!"):
            line = (head + os.read(fd, _HEAD_BYTES))[2:].split(b"\n")[0]
            return os.fsdecode(line.split()[0]) if line.split() else ""
        return _elf_interpreter(fd, head)
    except (OSError, IndexError):
        return ""
    finally:
        os.close(fd)


def _elf_interpreter(fd: int, head: bytes) -> str:
    # elf(5): e_phoff, e_phentsize and e_phnum of a 64-bit little-endian file, and p_type 3, PT_INTERP.
    if not head.startswith(b"\x7fELF\x02\x01"):
        return ""
    offset = int.from_bytes(head[32:40], "little")
    size, count = int.from_bytes(head[54:56], "little"), int.from_bytes(head[56:58], "little")
    for number in range(min(count, 64)):
        entry = os.pread(fd, size, offset + number * size)
        if entry[:4] == b"\x03\0\0\0":
            place, length = int.from_bytes(entry[8:16], "little"), int.from_bytes(entry[32:40], "little")
            return os.fsdecode(os.pread(fd, min(length, 4096), place).rstrip(b"\0"))
    return ""
