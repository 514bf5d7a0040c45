"""Steps as values, carried out in a namespace and in those named beside it, and undone in reverse order.

A step is a method of Rtnl with its arguments, so that a plan can be printed and compared. Steps of routes that follow
each other go in batches. What the steps are for is none of this module's business (see `topology`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.netns import DIRECTORY, create_namespace, delete_namespace, list_namespaces, name_path
from kernelproof.impl.netlink.routes import Route, add_route, delete_route, describe_route
from kernelproof.impl.netlink.rtnl import Rtnl

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.netns import Where
    from kernelproof.impl.netlink.requests import Request

# What goes in batches, as requests.
_BATCHED: Final[dict[str, Callable[..., Request]]] = {
    "route_add": add_route,
    "route_replace": lambda route: add_route(route, replace=True),
    "route_delete": delete_route,
}
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

    def reversed(self) -> Step:
        """Return the step that undoes this one, and that this one undoes."""
        return Step(
            *(self.undo, self.undo_arguments, self.undo_settings),
            *(self.do, self.arguments, self.settings),
            self.namespace,
        )


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

    def do(self, run: Sequence[Step]) -> tuple[OSError | None, ...]:
        """Carry out one step, or several that go in a batch, and return what each was refused with.

        Raises:
            OSError: the batch had no answer, so that it is not known what was done.
            ValueError: of a step that cannot be asked.
        """
        if len(run) > 1:
            requests = [_BATCHED[step.do](*step.arguments, **dict(step.settings)) for step in run]
            answers = self.net(run[0].namespace).batch(requests)
            return tuple(each if isinstance(each, NetlinkError) else None for each in answers)
        try:
            self._call(run[0])
        except OSError as error:
            return (error,)
        return (None,)

    def _call(self, step: Step) -> None:
        method, arguments, settings = step.do, step.arguments, step.settings
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
            getattr(self.net(step.namespace), method)(*arguments, **told)


def _runs(steps: Iterable[Step]) -> Iterator[tuple[Step, ...]]:
    # What goes together.
    for (_, is_batched), together in groupby(steps, lambda step: (step.namespace, step.do in _BATCHED)):
        run = tuple(together)
        yield from (run,) if is_batched else ((step,) for step in run)


def apply(where: Rtnl | Places, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Do the steps and return them; a step that fails undoes those before it in reverse order, and raises its error.

    Those that went in one batch with it and were done are undone too; others that were refused are notes on the error.

    Raises:
        OSError, ValueError: of the step; what could not be undone is a note on it.
    """
    places = where if isinstance(where, Places) else Places(net=where)
    done: list[Step] = []
    try:
        for run in _runs(steps):
            _do(places, run, done)
    except BaseException as error:
        for left in undo(places, tuple(done)):
            error.add_note(left)
        raise
    finally:
        if places is not where:
            places.close()
    return tuple(done)


def _do(places: Places, run: tuple[Step, ...], done: list[Step]) -> None:
    try:
        refusals = places.do(run)
    except BaseException as error:
        error.add_note(f"step: {run[0].describe()}{f' and {len(run) - 1} more' if len(run) > 1 else ''}")
        if len(run) > 1 and not isinstance(error, ValueError):
            done += run  # perhaps: what was not done is gone already
        raise
    done += [step for step, refusal in zip(run, refusals, strict=True) if refusal is None]
    refused = [(step, refusal) for step, refusal in zip(run, refusals, strict=True) if refusal is not None]
    if refused:
        (step, first), others = refused[0], refused[1:]
        first.add_note(f"step: {step.describe()}")
        for each, other in others:
            first.add_note(f"also refused: {each.describe()}: {other}")
        raise first


def undo(where: Rtnl | Places, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """Undo steps in reverse order, and return what could not be undone, in words; what is gone already is undone."""
    places = where if isinstance(where, Places) else Places(net=where)
    left = []
    reverse = [step.reversed() for step in reversed(steps) if step.undo]
    for run in _runs(reverse):
        try:
            refusals = places.do(run)
        except OSError as error:
            refusals = (error,) * len(run)
        left += [
            f"not undone: {step.reversed().describe()}: {refusal}"
            for step, refusal in zip(run, refusals, strict=True)
            if refusal is not None and refusal.errno not in _GONE
        ]
    if places is not where:
        places.close()
    return tuple(left)
