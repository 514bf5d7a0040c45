"""What is kept of a container between one command and the next: a directory of its own below the runtime's.

    state.json    who it is and where, its process, its cgroup, what is to be taken back; written to another name first
    config.json   the configuration that it was made with; what becomes of the bundle's file changes nothing
    notify        the directory of the socket for READY=1, if one was asked for (see notifying)
    start         the socket at which a created container waits (see process.rendezvous)
    lock          see locking

Directories belong to the runtime's user alone. They are opened once, without following a link, and all else is reached
by that descriptor.

Source: OCI runtime specification 1.3, runtime.md, "State" and "Lifecycle".
"""

from __future__ import annotations

import errno
import os
import time

from kernelproof.impl.libcontainer.config.jsontext import format_value, parse
from kernelproof.impl.libcontainer.process.identity import Identity, open_process
from kernelproof.impl.libcontainer.process.waiting import is_waiting

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"
NOTIFY_DIRECTORY = "notify"
STATE_FILE, CONFIG_FILE = "state.json", "config.json"
VERSION = "1.3.0"
MOST_ID_BYTES = 255
READY_PREFIX = "ready-"  # of a container that has no name of its own yet, see `ready`
_ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class ContainerError(Exception):
    """Anything that is wrong with a container as a whole; the root of this package's own errors.

    It can be a NoSuchContainerError (also LookupError), a ContainerExistsError, an InvalidIdError or StateError (also
    ValueError), a WrongStatusError (also RuntimeError). What an operation of a start met is a StartError.
    """


class NoSuchContainerError(ContainerError, LookupError):
    """There is no container of this name."""


class ContainerExistsError(ContainerError):
    """There is one of this name already; it was not touched."""


class InvalidIdError(ContainerError, ValueError):
    """No container can have this name."""


class WrongStatusError(ContainerError, RuntimeError):
    """The container's status does not allow this."""


class StateError(ContainerError, ValueError):
    """The container's state can't be read, perhaps because its making was cut off; `delete --force` removes it."""


def check_id(identifier: str) -> str:
    """Refuses what no container can be called.

    Raises:
        InvalidIdError: see the text.
    """
    if not identifier or identifier.startswith("."):
        raise InvalidIdError(f"container ID {identifier[:300]!r}: it can't be empty or begin with a dot")
    if not _ID_CHARACTERS.issuperset(identifier):
        wrong = sorted(set(identifier) - _ID_CHARACTERS)
        raise InvalidIdError(f"container ID {identifier[:300]!r}: only A-Z a-z 0-9 _ + - . are allowed, not {wrong}")
    if len(identifier) > MOST_ID_BYTES:
        raise InvalidIdError(f"container ID of {len(identifier)} bytes: more than the {MOST_ID_BYTES} of a file name")
    return identifier


def default_root() -> str:
    """The directory of all containers' states: below /run for root, else below XDG_RUNTIME_DIR."""
    if os.geteuid() == 0:
        return "/run/kernelproof/containers"
    place = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return os.path.join(place, "kernelproof/containers")


class State:
    """The values of state.json.

    Attributes:
        id, bundle, rootfs: its name and absolute paths.
        status: CREATING until the container is made; then CREATED, and what it is now is found by `status_of`.
        process: who its first process is; pid 0 as long as there is none.
        annotations: of the configuration.
        created: seconds since the epoch.
        owner: uid of who made it.
        cgroup: name below each hierarchy, empty without one; `keep_cgroup` if it was there before.
        undo: what of the host is to be taken back at the end, in order: pairs of a kind and a JSON value.
    """

    __slots__ = (
        "annotations",
        "bundle",
        "cgroup",
        "created",
        "id",
        "keep_cgroup",
        "owner",
        "process",
        "rootfs",
        "status",
        "undo",
    )

    def __init__(self, identifier: str, bundle: str, rootfs: str, annotations: dict[str, str]) -> None:
        self.id = identifier
        self.bundle = bundle
        self.rootfs = rootfs
        self.status = CREATING
        self.process = Identity(0, 0, 0)
        self.annotations = annotations
        self.created = time.time()
        self.owner = os.geteuid()
        self.cgroup = ""
        self.keep_cgroup = False
        self.undo: list[tuple[str, object]] = []

    def to_json(self) -> dict[str, object]:
        """As state.json has it."""
        return {
            "id": self.id,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "status": self.status,
            "process": list(self.process.values()),
            "annotations": self.annotations,
            "created": format_value(int(self.created * 1e9)),
            "owner": self.owner,
            "cgroup": self.cgroup,
            "keepCgroup": self.keep_cgroup,
            "undo": [list(pair) for pair in self.undo],
        }


def state_of_json(value: object, identifier: str) -> State:
    """A state from the values of its file.

    Raises:
        StateError: they are not what a state has.
    """
    match value:
        case {
            "id": str(name),
            "bundle": str(bundle),
            "rootfs": str(rootfs),
            "status": str(status),
            "process": [int(pid), int(start), int(inode)],
            "annotations": dict(annotations),
            "created": str(created),
            "owner": int(owner),
            "cgroup": str(cgroup),
            "keepCgroup": bool(keep),
            "undo": list(undo),
        } if (name == identifier or name.startswith(READY_PREFIX)) and created.isdigit():
            # A program that was killed when it took a ready container has renamed the directory, perhaps no more.
            found = State(identifier, bundle, rootfs, {str(key): str(text) for key, text in annotations.items()})
            found.status = status
            found.process = Identity(pid, start, inode)
            found.created = int(created) / 1e9
            found.owner, found.cgroup, found.keep_cgroup = owner, cgroup, keep
            found.undo = [(str(pair[0]), pair[1]) for pair in undo if isinstance(pair, list) and len(pair) == 2]
            return found
    raise StateError(f"the state of container {identifier!r} is not what this runtime writes")


class StateDirectory:
    """The directory of one container, open.

    Attributes:
        fd: its descriptor, closed by `close`.
    """

    __slots__ = ("_root", "fd", "id")

    def __init__(self, root: int, identifier: str, fd: int) -> None:
        self._root = root
        self.id = identifier
        self.fd = fd

    def fileno(self) -> int:
        """The descriptor."""
        return self.fd

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Writes a file whole or not at all.

        Raises:
            OSError: ENOSPC, EROFS, EDQUOT …
        """
        write_whole(self.fd, name, data, mode)

    def read(self, name: str, most_bytes: int = 1 << 25) -> bytes:
        """The content of a file.

        Raises:
            OSError: ENOENT; ELOOP: it is a link.
        """
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.fd)
        with open(fd, "rb") as file:
            return file.read(most_bytes)

    def write_state(self, state: State) -> None:
        """Writes state.json; errors as `write`."""
        self.write(STATE_FILE, format_value(state.to_json()).encode())

    def read_state(self) -> State:
        """Reads state.json.

        Raises:
            StateError: there is none, or it is damaged.
        """
        try:
            return state_of_json(parse(self.read(STATE_FILE)), self.id)
        except FileNotFoundError:
            raise StateError(f"container {self.id!r} has no state: its making was cut off") from None
        except ValueError as error:
            raise StateError(f"the state of container {self.id!r} is damaged: {error}") from error

    def remove(self) -> None:
        """Removes the directory with its files; the lock is the last of them."""
        names = sorted(os.listdir(self.fd), key=lambda name: name == "lock")
        for name in names:
            if name == NOTIFY_DIRECTORY:
                _remove_flat(self.fd, name)
            else:
                os.unlink(name, dir_fd=self.fd)
        os.rmdir(self.id, dir_fd=self._root)

    def close(self) -> None:
        """Closes both descriptors."""
        if self.fd >= 0:
            os.close(self.fd)
            os.close(self._root)
            self.fd = -1

    def __enter__(self) -> StateDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove_flat(parent: int, name: str) -> None:
    directory = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        for file in os.listdir(directory):
            os.unlink(file, dir_fd=directory)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)


def write_whole(directory: int, name: str, data: bytes, mode: int = 0o600) -> None:
    """Writes a file to another name and renames it: whoever reads it finds the old or the new one.

    Raises:
        OSError: ENOSPC, EROFS, EDQUOT …; the other name is gone then.
    """
    other = f".{name}.{os.getpid()}"
    fd = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=directory)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.rename(other, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(other, dir_fd=directory)
        raise


def open_root(root: str, *, make: bool = False) -> int:
    """A descriptor of the directory of all states.

    Raises:
        OSError: ENOENT: nothing was ever made here; EPERM: it belongs to another user, or others may write to it.
    """
    if make and not os.access(root, os.F_OK):  # mostly it is there, and then a call need not load makedirs
        os.makedirs(root, 0o700, exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    found = os.fstat(fd)
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o022:
        os.close(fd)
        raise PermissionError(errno.EPERM, "the directory of states belongs to another user, or others can write", root)
    return fd


def make_directory(root: str, identifier: str) -> StateDirectory:
    """Makes the directory of a new container.

    Raises:
        ContainerExistsError: the name is taken.
        InvalidIdError, OSError: see check_id and open_root.
    """
    check_id(identifier)
    parent = open_root(root, make=True)
    try:
        os.mkdir(identifier, 0o700, dir_fd=parent)
        return StateDirectory(parent, identifier, os.open(identifier, _DIRECTORY, dir_fd=parent))
    except FileExistsError:
        os.close(parent)
        raise ContainerExistsError(f"container {identifier!r} exists already in {root}") from None
    except OSError:
        os.close(parent)
        raise


def open_directory(root: str, identifier: str) -> StateDirectory:
    """Opens the directory of a container.

    Raises:
        NoSuchContainerError: there is none.
        InvalidIdError, OSError: see check_id and open_root.
    """
    check_id(identifier)
    try:
        parent = open_root(root)
    except FileNotFoundError:
        raise NoSuchContainerError(f"container {identifier!r} does not exist") from None
    try:
        return StateDirectory(parent, identifier, os.open(identifier, _DIRECTORY, dir_fd=parent))
    except (FileNotFoundError, NotADirectoryError):
        os.close(parent)
        raise NoSuchContainerError(f"container {identifier!r} does not exist") from None
    except OSError:
        os.close(parent)
        raise


def list_ids(root: str) -> Iterator[str]:
    """The names of all containers, sorted."""
    try:
        parent = open_root(root)
    except FileNotFoundError:
        return
    try:
        yield from sorted(name for name in os.listdir(parent) if not name.startswith("."))
    finally:
        os.close(parent)


def status_of(directory: StateDirectory, state: State, *, frozen: bool = False) -> str:
    """What a container is now: by its process, not by what was written.

    Args:
        frozen: whether its cgroup is frozen.
    """
    pidfd = open_process(state.process)
    if pidfd is None:
        return CREATING if state.status == CREATING and not state.process.pid else STOPPED
    os.close(pidfd)
    if frozen:
        return PAUSED
    if state.status == CREATING:
        return CREATING
    return CREATED if is_waiting(directory.fd) else RUNNING


def format_time(seconds: float) -> str:
    """A time as RFC 3339 has it, in UTC, with nine digits after the second.

    >>> format_time(0.5)
    '1970-01-01T00:00:00.500000000Z'
    """
    whole = time.gmtime(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", whole) + f".{int(seconds % 1 * 1e9):09d}Z"


def describe_state(state: State, status: str, version: str = VERSION) -> dict[str, object]:
    """The state as the specification has it, and as hooks get it; `pid` is 0 once it has stopped."""
    return {
        "ociVersion": version,
        "id": state.id,
        "status": status,
        "pid": state.process.pid if status not in (STOPPED,) else 0,
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": format_time(state.created),
        "owner": str(state.owner),
        "annotations": state.annotations,
    }
