"""What changes, as events, with a view that is never stale: an overrun is followed by a new dump and the differences.

    with Monitor("link", "address") as monitor:
        for event in monitor.events():
            print(event.what, event.record)

The kernel drops notifications when the receive buffer is full, and says so once (ENOBUFS). Also it says nothing of the
IPv4 routes and next hop objects that go with a link or an address, and of the ways that an IPv6 route has left when one
of them goes. In these cases the monitor asks again, at most once a second, and yields what it missed; so the events,
folded over the first view, make the view of a fresh dump.

What runs by itself (statistics, times of a bridge, the lifetime of an address, `rest`) is no part of the view, nor what
changes without a word (the queueing discipline of a link, how many addresses a bridge has learned). Such a number is 0,
a text "", an option not there; an address that is not for ever has lifetimes of 0.

Source: netlink(7), DESCRIPTION and ERRORS.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from errno import ENOBUFS
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from kernelproof.impl.netlink.addresses import Address
from kernelproof.impl.netlink.connection import Connection
from kernelproof.impl.netlink.endpoint import KernelSocket
from kernelproof.impl.netlink.errors import ClosedError
from kernelproof.impl.netlink.links import UP, Link
from kernelproof.impl.netlink.neighbours import Neighbour
from kernelproof.impl.netlink.netconf import NetConf
from kernelproof.impl.netlink.nexthops import NextHopObject
from kernelproof.impl.netlink.requests import EXCL, REPLACE
from kernelproof.impl.netlink.routes import Route
from kernelproof.impl.netlink.rules import Rule
from kernelproof.impl.netlink.values import INET6
from kernelproof.impl.netlink.watched import KINDS, Watched, route_key, route_place
from kernelproof.impl.netlink.wire import Message, parse_messages

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.netns import Where

Record: TypeAlias = "Link | Address | Route | Neighbour | Rule | NextHopObject | NetConf"
_SECONDS_BETWEEN_DUMPS: Final = 1.0


class Event(NamedTuple):
    """A change: `what` is added, changed or removed; `before` is the record until then, if there was one."""

    what: str
    record: Record
    before: Record | None = None


class Overrun(NamedTuple):
    """Notifications were lost for the `times`-th time; the events behind it tell what they would have told."""

    times: int


class Monitor:
    """A view of a network namespace that follows its changes.

    Args:
        kinds: link, address, route, rule unless told; also neighbour, forwarding, nexthop, netconf.
        netns: which namespace; None for the caller's.
        receive_buffer_bytes: how much the kernel keeps while nobody reads.
        clock: monotonic seconds.

    Raises:
        ValueError: no such kind.
        OSError: as Connection.
    """

    def __init__(
        self,
        *kinds: str,
        netns: Where | None = None,
        receive_buffer_bytes: int = 1 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        wanted = kinds or ("link", "address", "route", "rule")
        unknown = [kind for kind in wanted if kind not in KINDS]
        if unknown:
            raise ValueError(f"no kind {unknown[0]!r} to watch; there are: {', '.join(KINDS)}")
        self._kinds = {kind: KINDS[kind] for kind in wanted}
        # What takes routes and next hop objects along without a word.
        self._told = {"link", "address"} if {"route", "nexthop"} & {*wanted} else set()
        self._heard = {*wanted, *self._told}
        groups = {group for kind in self._heard for group in KINDS[kind].groups}
        self._clock = clock
        self._closed = False
        self._on_close: list[Callable[[], object]] = []
        self._reading = threading.Lock()  # nobody reads a descriptor that was given back
        self._count = 0
        self._due: float | None = None
        self._last = -_SECONDS_BETWEEN_DUMPS
        self._view: dict[str, dict[tuple[Any, ...], Any]] = {kind: {} for kind in wanted}
        self._connection = Connection(netns=netns)
        try:
            self._socket = KernelSocket(
                netns=netns, strict=False, receive_buffer_bytes=receive_buffer_bytes, groups=sorted(groups)
            )
        except OSError:
            self._connection.close()
            raise
        try:
            for _ in self._dump_again():
                pass
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor that has something to read when there are events."""
        return self._socket.fileno()

    @property
    def overruns(self) -> int:
        """How often notifications were lost."""
        return self._count

    def view(self, kind: str) -> tuple[Any, ...]:
        """Return the records of a kind as known now, in no order that means anything."""
        return tuple(self._view[kind].values())

    def close(self) -> None:
        """Close the sockets; whoever iterates in another thread is done. Closing twice is nothing."""
        if not self._closed:
            self._closed = True
            for tell in self._on_close:
                tell()
            self._socket.wake()
            with self._reading:
                self._socket.close()
            self._connection.close()

    def events(self, *, timeout_seconds: float | None = None) -> Iterator[Event | Overrun]:
        """Yield events as they come.

        Args:
            timeout_seconds: end when nothing came for so long; None waits until the monitor is closed.

        Raises:
            OSError, WireError: as Connection.dump.
        """
        try:
            while not self._closed:
                yield from self.pending()
                left = timeout_seconds
                if self._due is not None:
                    until = max(0.0, self._due - self._clock())
                    left = until if left is None else min(left, until)
                if not self._wait(left) and self._due is None:
                    return
        except ClosedError:
            return

    def pending(self) -> Iterator[Event | Overrun]:
        """Yield what is there now, without waiting.

        Raises:
            OSError, WireError: as Connection.dump.
        """
        while not self._closed:
            if self._due is not None and self._clock() >= self._due:
                yield from self._dump_again()
            try:
                data, sender = self._receive()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != ENOBUFS:
                    raise
                self._count += 1
                yield Overrun(self._count)
                self._drain()
                self._ask_again()
                continue
            if sender == 0:
                for message in parse_messages(data):
                    yield from self._apply(message)

    async def __aiter__(self) -> AsyncIterator[Event | Overrun]:
        """Yield events in an asyncio program; the same as events() without a timeout."""
        # Measured: asyncio costs 60 ms at import, which only its users are to pay.
        import asyncio

        loop = asyncio.get_running_loop()
        ready = asyncio.Event()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(ready.set)
            except RuntimeError:  # the loop is closed: nobody iterates in it any more
                return

        self._on_close.append(tell)
        fd = self.fileno()
        try:
            while not self._closed:
                for event in self.pending():
                    yield event
                if self._is_closed():
                    return
                ready.clear()
                loop.add_reader(fd, ready.set)
                try:
                    left = None if self._due is None else max(0.0, self._due - self._clock())
                    await asyncio.wait_for(ready.wait(), left)
                except TimeoutError:
                    continue
                finally:
                    loop.remove_reader(fd)
        finally:
            self._on_close.remove(tell)

    def _is_closed(self) -> bool:
        return self._closed  # a method, since whoever got an event may have closed it

    def _drain(self) -> None:
        while True:
            try:
                self._receive()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != ENOBUFS:
                    raise

    def _receive(self) -> tuple[bytes, int]:
        with self._reading:
            if self._closed:
                raise BlockingIOError
            return self._socket.receive()

    def _wait(self, seconds: float | None) -> bool:
        with self._reading:
            return self._closed or self._socket.wait(seconds)

    def _ask_again(self) -> None:
        if self._due is None:
            self._due = max(self._clock(), self._last + _SECONDS_BETWEEN_DUMPS)

    def _dump_again(self) -> Iterator[Event]:
        self._due = None
        self._last = self._clock()
        for name, kind in self._kinds.items():
            found = (kind.settled(record) for record in self._connection.dump(kind.request(), kind.parse))
            fresh = {kind.key(record): record for record in found if record is not None and not kind.hidden(record)}
            yield from self._differences(name, fresh)

    def _differences(self, name: str, fresh: dict[tuple[Any, ...], Any]) -> Iterator[Event]:
        old, self._view[name] = self._view[name], fresh
        for key in old.keys() - fresh.keys():
            yield Event("removed", old[key], old[key])
        for key, record in fresh.items():
            if key not in old:
                yield Event("added", record)
            elif old[key] != record:
                yield Event("changed", record, old[key])

    def _apply(self, message: Message) -> Iterator[Event]:
        for name, kind in KINDS.items():
            if message.type in {kind.new, kind.new + 1} and name in self._heard:
                yield from self._apply_as(name, kind, message)

    def _apply_as(self, name: str, kind: Watched, message: Message) -> Iterator[Event]:
        record = kind.settled(kind.parse(message))
        if record is None:
            return
        gone = message.type == kind.new + 1 or kind.hidden(record)
        if name in self._told and (gone or (name == "link" and not record.flags & UP)):
            self._ask_again()
        if name not in self._view:
            return
        if name == "route":
            yield from self._beside(record, gone, message.flags)
        yield from self._folded(self._view[name], kind.key(record), record, gone)

    @staticmethod
    def _folded(view: dict[tuple[Any, ...], Any], key: tuple[Any, ...], record: Any, gone: bool) -> Iterator[Event]:
        before = view.get(key)
        if gone:
            if before is not None:
                del view[key]
                yield Event("removed", record, before)
        elif before != record:
            view[key] = record
            yield Event("changed" if before is not None else "added", record, before)

    def _beside(self, route: Route, gone: bool, flags: int) -> Iterator[Event]:
        # What a message says of routes beside its own.
        view, key = self._view["route"], route_key(route)
        if gone:
            if route.family == INET6 and key not in view:  # one way of a route that has several
                self._ask_again()
            return
        replaces = bool(flags & REPLACE)
        # The kernel says EXCL of an IPv6 route that found no other in its place.
        joins = route.family == INET6 and not flags & EXCL and bool(route.gateway or route.nexthops)
        if not replaces and not joins:
            return
        place = route_place(route)
        same = [each for each, other in view.items() if each != key and route_place(other) == place]
        if len(same) > replaces:  # ways were joined, or which route was replaced is not known
            self._ask_again()
        if replaces and same:  # it goes without a word of its own
            old = view.pop(same[0])
            if old[:9] == route[:9]:
                view[key] = route
                yield Event("changed", route, old)
            else:
                yield Event("removed", old, old)


def wait_until_link(
    name: str,
    condition: Callable[[Link | None], bool],
    *,
    timeout_seconds: float,
    netns: Where | None = None,
) -> Link | None:
    """Wait until a link is as wanted, by events; None stands for no such link, before and after.

    Raises:
        OSError: ETIMEDOUT (TimeoutError) if it is not so in time.
    """
    deadline = time.monotonic() + timeout_seconds
    with Monitor("link", netns=netns) as monitor:
        while True:
            link = _named(monitor.view("link"), name)
            if condition(link):
                return link
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"link {name} is not as wanted after {timeout_seconds} seconds: {link}")
            next(iter(monitor.events(timeout_seconds=left)), None)


def _named(links: Iterable[Link], name: str) -> Link | None:
    return next((link for link in links if name in (link.name, *link.altnames)), None)


def wait_until_link_up(name: str, *, timeout_seconds: float, netns: Where | None = None) -> Link:
    """Wait until a link is there, set up, and has its carrier (IFF_LOWER_UP); errors as for wait_until_link."""
    up = UP | 0x10000
    found = wait_until_link(
        name, lambda link: link is not None and link.flags & up == up, timeout_seconds=timeout_seconds, netns=netns
    )
    assert found is not None
    return found


def wait_until_link_gone(name: str, *, timeout_seconds: float, netns: Where | None = None) -> None:
    """Wait until there is no such link; errors as for wait_until_link."""
    wait_until_link(name, lambda link: link is None, timeout_seconds=timeout_seconds, netns=netns)
