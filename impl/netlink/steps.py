"""Steps as values, carried out in a namespace and in those named beside it, and undone in reverse order.

A step is a method of Rtnl with its arguments, so that a plan can be printed and compared. What the steps are for is
none of this module's business (see `topology`).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kernelproof.impl.netlink.netns import DIRECTORY, create_namespace, delete_namespace, list_namespaces, name_path
from kernelproof.impl.netlink.routes import Route, describe_route
from kernelproof.impl.netlink.rtnl import Rtnl

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.netns import Where

_GONE: Final = frozenset({ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL})  # what somebody else undid already


class Step(NamedTuple):
    """One operation: a method of Rtnl and its arguments, and those that undo it, if an earlier one does not.

    Attributes:
        namespace: where, "" for the outermost.
    """

    do: str
    arguments: tuple[Any, ...]
    settings: tuple[tuple[str, Any], ...] = ()
    undo: str = ""
    undo_arguments: tuple[Any, ...] = ()
    undo_settings: tuple[tuple[str, Any], ...] = ()
    namespace: str = ""

    def describe(self) -> str:
        """Return the step in words.

        >>> Step("address_add", ("br0", "10.0.41.1/16")).describe()
        'address add br0 10.0.41.1/16'
        """
        words = [describe_route(each) if isinstance(each, Route) else str(each) for each in self.arguments]
        words += [f"{key} {value}" for key, value in self.settings]
        where = [f"in {self.namespace}:"] if self.namespace else []
        return " ".join([*where, *self.do.split("_"), *words])


class Places:
    """Connections to a network namespace and to those named beside it, opened when they are first used.

    Args:
        netns: the outermost; None for the caller's.
        directory: of named namespaces.
        net: a connection to the outermost to use instead, which the caller closes.
        connect: makes a connection.
    """

    def __init__(
        self,
        netns: Where | None = None,
        *,
        directory: str = DIRECTORY,
        net: Rtnl | None = None,
        connect: Callable[[Where | None], Rtnl] = Rtnl,
    ) -> None:
        self._netns = netns
        self._directory = directory
        self._connect = connect
        self._given = net
        self._open: dict[str, Rtnl] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened here."""
        while self._open:
            self._open.popitem()[1].close()

    def net(self, name: str) -> Rtnl:
        """Return the connection to a namespace, "" for the outermost."""
        if not name and self._given is not None:
            return self._given
        if name not in self._open:
            self._open[name] = self._connect(name_path(name, self._directory) if name else self._netns)
        return self._open[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of namespaces that are there."""
        return list_namespaces(directory=self._directory)

    def path(self, name: str) -> str:
        """Return the file of a namespace."""
        return name_path(name, self._directory)

    def do(self, step: Step) -> None:
        """Carry a step out."""
        self._call(step.namespace, step.do, step.arguments, step.settings)

    def undo(self, step: Step) -> None:
        """Undo a step that was carried out."""
        self._call(step.namespace, step.undo, step.undo_arguments, step.undo_settings)

    def _call(
        self, namespace: str, method: str, arguments: tuple[Any, ...], settings: tuple[tuple[str, Any], ...]
    ) -> None:
        if method == "namespace_add":
            create_namespace(*arguments, directory=self._directory)
        elif method == "namespace_delete":
            if arguments[0] in self._open:  # an open socket would keep it alive
                self._open.pop(arguments[0]).close()
            delete_namespace(*arguments, directory=self._directory)
        else:
            told = dict(settings)
            peer = told.get("peer")
            if peer and peer.get("namespace"):
                told["peer"] = {**peer, "namespace": self.path(peer["namespace"])}
            getattr(self.net(namespace), method)(*arguments, **told)


def apply(where: Rtnl | Places, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Do the steps and return them; a step that fails undoes those before it in reverse order, and raises its error.

    Raises:
        OSError, ValueError: of the step; what could not be undone is a note on it.
    """
    places = where if isinstance(where, Places) else Places(net=where)
    done: list[Step] = []
    try:
        for step in steps:
            places.do(step)
            done.append(step)
    except BaseException as error:
        if len(done) < len(steps):
            error.add_note(f"step: {steps[len(done)].describe()}")
        for left in undo(places, tuple(done)):
            error.add_note(left)
        raise
    finally:
        if places is not where:
            places.close()
    return tuple(done)


def undo(where: Rtnl | Places, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """Undo steps in reverse order, and return what could not be undone, in words; what is gone already is undone."""
    places = where if isinstance(where, Places) else Places(net=where)
    left = []
    for step in reversed([step for step in steps if step.undo]):
        try:
            places.undo(step)
        except OSError as error:
            if error.errno not in _GONE:
                left.append(f"not undone: {step.describe()}: {error}")
    if places is not where:
        places.close()
    return tuple(left)
