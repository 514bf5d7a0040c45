"""What an operation is: a value that says what will be done, does it, and can take it back.

A plan is a tuple of operations in the order in which they are done. Each one is compared and shown by its class and its
fields, touches nothing before `do`, and finds what it acts on in the `Site`: the descriptors that earlier ones opened,
never a path that a container could change meanwhile.

The stages, in order, are where an operation is done:

    host    by the runtime, in its own namespaces: cgroup, network ends, hooks of the host
    init    by the container's first process, in its new namespaces, before its root is in place: mounts, devices, masks
    root    the same process, on its way into the root and below it: pivot, read-only, sysctls, names
    final   the same process, last before the program: identity, capabilities, seccomp, limits, descriptors
"""

from __future__ import annotations

import errno as _errno
import os

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from typing import ClassVar

STAGES = ("host", "init", "root", "final")


class Site:
    """Where a stage works: its descriptors by name, and what its operations leave for later ones.

    Attributes:
        descriptors: open descriptors by what they are: `root` (the container's root), `proc` (a verified procfs) …;
            whoever opens one puts it here, `close` closes all.
        found: plain values that an operation learns for later ones and for the container's state.
        handed: names of descriptors that the container's process hands to the runtime when its turn ends, such as
            `master`.
        report: values that it tells the runtime then, as JSON has them.
    """

    __slots__ = ("descriptors", "found", "handed", "report")

    def __init__(self, **descriptors: int) -> None:
        self.descriptors: dict[str, int] = descriptors
        self.found: dict[str, object] = {}
        self.handed: tuple[str, ...] = ("master",)
        self.report: dict[str, object] = {}

    def close(self) -> None:
        """Closes every descriptor that is still here."""
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])

    def refuse(self, text: str) -> None:
        """Notes what was asked and is not to be had, though the start goes on: whoever started it is told."""
        refused = self.found.setdefault("refused", [])
        assert isinstance(refused, list)
        refused.append(text)


class Operation:
    """One step. Subclasses name their fields in `__slots__`, in the order of `__init__`, and their stage.

    Operations of one class with equal fields are equal; an operation never changes.
    """

    __slots__: tuple[str, ...] = ()
    stage: ClassVar[str] = ""

    def __init__(self, *values: object) -> None:
        names = self.__slots__
        if len(values) != len(names):
            raise TypeError(f"{type(self).__name__} takes {', '.join(names) or 'nothing'}: {len(values)} values given")
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is a value: {name} can't be set")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operation) and type(self) is type(other) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.values())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.values()))})"

    def values(self) -> tuple[object, ...]:
        """The fields' values, in order."""
        return tuple(getattr(self, name) for name in self.__slots__)

    def describe(self) -> str:
        """What will happen, as one line for people: the verb first, then the object and how."""
        raise NotImplementedError

    def prepare(self, site: Site) -> None:
        """Loads and works out what `do` will need, while the other side is at work; touches nothing. Errors as `do`."""

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: what the kernel said, with notes on the call, its flags and what helps.
            LookupError, ValueError: what the operation needs is not there, or is not what it must be.
        """
        raise NotImplementedError

    def undo(self, site: Site) -> None:
        """Takes it back after a later one failed; what ends with the process or its namespaces needs nothing here."""


class Remedy(str):
    """A note on an exception that says what helps, and not what happened: a StartError tells it as such."""

    __slots__ = ()


NOTHING_TO_START = "start"  # call of the StartError of a container without a process, which goes on waiting


class StartError(Exception):
    """An operation failed: where, what and why, equal in the library, on the wire and on the command line.

    Attributes:
        stage: one of STAGES, or the step of the start itself, such as `spawn`.
        call: the operation's name, or the system call's.
        errno: the kernel's number; 0 if it was no refusal of the kernel.
        path: what was acted upon: a path, an interface, an identifier.
        detail: the sentence.
        remedy: what helps, or an empty text.
        left: what could not be taken back, each as a sentence; mostly nothing.
    """

    def __init__(self, stage: str, call: str, errno: int, path: str, detail: str, remedy: str = "") -> None:
        number = f" ({_errno.errorcode.get(errno, errno)})" if errno else ""
        words = " ".join([word for word in (call if call != stage else "", path) if word])
        front = f"{stage}: {words}: " if words else f"{stage}: "
        super().__init__(f"{front}{detail}{number}" + (f". {remedy}" if remedy else ""))
        self.stage = stage
        self.call = call
        self.errno = errno
        self.path = path
        self.detail = detail
        self.remedy = remedy
        self.left: tuple[str, ...] = ()

    def as_record(self) -> dict[str, object]:
        """The error as plain values, for JSON: stage, call, errno, path, detail, remedy."""
        return {name: getattr(self, name) for name in ("stage", "call", "errno", "path", "detail", "remedy")}
