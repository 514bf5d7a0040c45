"""Network namespaces: sockets in others, and named ones as `ip netns` has them.

A socket belongs for ever to the namespace that its thread was in when it was made. So a new thread joins the other
namespace, makes the socket and ends: no fork, and the caller's thread stays where it is.

A name is a file of /run/netns that a namespace is mounted on; `ip netns` sees those made here, and the reverse.

Source: setns(2); network_namespaces(7); ip-netns(8), DESCRIPTION; include/uapi/linux/pidfd.h.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EINVAL, ENOTTY
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

DIRECTORY: Final = "/run/netns"
_NEWNET: Final = 0x40000000


class Pid(NamedTuple):
    """The network namespace of a process, by its number in the caller's PID namespace."""

    pid: int


Where: TypeAlias = "str | os.PathLike[str] | int | Pid"
"""A network namespace: a name (without `/`), a path, an open descriptor (also a pidfd), or a Pid."""


def open_namespace(where: Where, *, directory: str = DIRECTORY) -> int:
    """Return a new descriptor of a network namespace, close-on-exec; the caller closes it. Of a pidfd: its process's.

    Raises:
        OSError: ENOENT (no such name or path), ESRCH or ENOENT (no such process), EACCES, EPERM, EBADF, EINVAL (a
            descriptor that is neither of a namespace nor a pidfd).
        ValueError: a name with a NUL byte, or one that leads elsewhere.
    """
    fd = _open(where, directory)
    if not isinstance(where, int):
        return fd
    # Those who give descriptors open libc's door, and no others.
    from kernelproof.impl._syscalls.nsfs import namespace_kind

    try:
        namespace_kind(fd)
    except OSError as error:
        try:
            if error.errno != ENOTTY:
                raise
            return _namespace_of_pidfd(fd)
        finally:
            os.close(fd)
    return fd


def _namespace_of_pidfd(fd: int) -> int:
    # As above.
    from kernelproof.impl._syscalls.pidfd_info import ProcessNamespace, open_namespace_of

    try:
        return open_namespace_of(fd, ProcessNamespace.NETWORK)
    except OSError as error:
        if error.errno != ENOTTY:  # before Linux 6.11
            raise
    return _on_new_thread(lambda: _join_and_call(fd, os.open, ("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)))


def _open(where: Where, directory: str = DIRECTORY) -> int:
    # What a thread can join: a pidfd stays one.
    if isinstance(where, Pid):
        return os.open(f"/proc/{where.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if isinstance(where, int):
        duplicate = os.dup(where)
        os.set_inheritable(duplicate, False)
        return duplicate
    path = os.fspath(where)
    return os.open(path if "/" in path else name_path(path, directory), os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def shown_to_kernel(where: Where) -> Iterator[dict[str, int]]:
    """Yield `{"fd": …}` or `{"pid": …}` for a namespace; the descriptor is closed at the end.

    Raises:
        OSError, ValueError: as open_namespace.
    """
    if isinstance(where, Pid):
        yield {"pid": where.pid}
        return
    fd = open_namespace(where)
    try:
        yield {"fd": fd}
    finally:
        os.close(fd)


def name_path(name: str, directory: str = DIRECTORY) -> str:
    """Return the file that a name stands for.

    Raises:
        ValueError: empty, `.`, `..`, longer than 255 bytes, or with `/` or NUL in it.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
        raise ValueError(f"{name!r} is no name of a network namespace")
    return f"{directory}/{name}"


def _join(fd: int) -> None:
    if sys.version_info >= (3, 12):
        os.setns(fd, _NEWNET)
    else:
        # ctypes behind it costs 6 ms, which only the first namespace is to pay.
        from kernelproof.impl._syscalls.namespaces import setns

        setns(fd, _NEWNET)


class Caller(Protocol):
    """Calls a function with positional arguments and returns what it returns."""

    def __call__(self, function: Callable[..., T], /, *arguments: Any) -> T: ...


def call_in(where: Where, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a new thread that joined a network namespace, and return what it returned.

    Raises:
        OSError: as open_namespace; EINVAL (no network namespace), EPERM (no CAP_SYS_ADMIN).
        BaseException: what the function raised.
    """
    fd = _open(where)
    try:
        return _on_new_thread(lambda: _join_and_call(fd, function, arguments))
    finally:
        os.close(fd)


def _join_and_call(fd: int, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    _join(fd)
    return function(*arguments)


def _on_new_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="kernelproof-netns")
    thread.start()
    thread.join()
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()
    return results[0]


@contextmanager
def run_in(where: Where) -> Iterator[Caller]:
    """Keep a thread in a network namespace, and yield what calls functions on it.

        with run_in("blue") as call:
            server = call(socket.create_server, ("10.0.0.1", 80))

    The caller's thread stays where it is, and so do all others.

    Raises:
        OSError: as call_in.
    """
    # Measured: concurrent.futures costs 9 ms at import, which programs without namespaces need not pay.
    from concurrent.futures import ThreadPoolExecutor

    fd = _open(where)
    try:
        with ThreadPoolExecutor(1, "kernelproof-netns") as pool:
            pool.submit(_join, fd).result()

            def call(function: Callable[..., T], /, *arguments: Any) -> T:
                return pool.submit(function, *arguments).result()

            yield call
    finally:
        os.close(fd)


def list_namespaces(*, directory: str = DIRECTORY) -> tuple[str, ...]:
    """Return the names, sorted; none if nobody made any.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        return tuple(sorted(os.listdir(directory)))
    except FileNotFoundError:
        return ()


def create_namespace(name: str, *, directory: str = DIRECTORY) -> "Path":
    """Make a network namespace with a name, and return its file; its loopback link is down.

    Raises:
        OSError: EEXIST (the name is taken), EPERM (no CAP_SYS_ADMIN), ENOSPC (a limit on namespaces). Nothing is
            left behind then.
        ValueError: no name.
    """
    # libc's door is opened by those who make namespaces alone; pathlib costs 8 ms at import.
    from pathlib import Path

    # As above.
    from kernelproof.impl._syscalls.mount import MountFlag, mount
    from kernelproof.impl._syscalls.namespaces import unshare

    path = name_path(name, directory)
    _prepare(directory)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))

    def make() -> None:
        unshare(_NEWNET)
        mount("/proc/thread-self/ns/net", path, "none", MountFlag.BIND)

    try:
        _on_new_thread(make)
    except OSError:
        os.unlink(path)
        raise
    return Path(path)


def _prepare(directory: str) -> None:
    # As `ip netns` does: a mount point of its own that is shared, so that a name made in one mount namespace is seen,
    # and can be removed, in those that were copied from it.
    from kernelproof.impl._syscalls.mount import MountFlag, mount  # as above

    os.makedirs(directory, 0o755, exist_ok=True)
    shared = MountFlag.SHARED | MountFlag.REC
    try:
        mount("", directory, "none", shared)
    except OSError as error:
        if error.errno != EINVAL:  # EINVAL: no mount point yet
            raise
        mount(directory, directory, "none", MountFlag.BIND | MountFlag.REC)
        mount("", directory, "none", shared)


def delete_namespace(name: str, *, directory: str = DIRECTORY) -> None:
    """Take a name away; the namespace itself goes when nothing uses it any more.

    Raises:
        OSError: ENOENT (no such name), EPERM, EBUSY.
        ValueError: no name.
    """
    # libc's door is opened by those who delete namespaces alone.
    from kernelproof.impl._syscalls.mount import umount2

    path = name_path(name, directory)
    try:
        umount2(path, 2)  # MNT_DETACH, as `ip netns`: a process inside keeps it
    except OSError as error:
        if error.errno != EINVAL:  # EINVAL: a file that nothing is mounted on, left by a crash
            raise
    os.unlink(path)


def is_same_namespace(one: int, other: int) -> bool:
    """Return whether two open descriptors stand for the same network namespace."""
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


__all__ = [
    "DIRECTORY",
    "Caller",
    "Pid",
    "Where",
    "call_in",
    "create_namespace",
    "delete_namespace",
    "is_same_namespace",
    "list_namespaces",
    "name_path",
    "open_namespace",
    "run_in",
    "shown_to_kernel",
]
