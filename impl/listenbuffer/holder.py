"""A small process that keeps sockets while their owner is being restarted: names, expiry, and the whole set at once.

    python -m kernelproof.impl.listenbuffer.holder /run/app/holder.sock

What systemd's descriptor store does for services, for programs that systemd does not run. A name holds a set of
descriptors, listening sockets and connections alike, until it is taken or expires. The next holder takes the
whole set over from this one.

Sources: s6-fdholder-daemon's documentation (identifiers, expiry, transfer); sd_notify(3), FDSTORE.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Final, NamedTuple, Self

from kernelproof.impl.listenbuffer import messages
from kernelproof.impl.listenbuffer.errors import HandOverRefused
from kernelproof.impl.listenbuffer.gate import Gate
from kernelproof.impl.listenbuffer.inherit import NAME_MAX, real_fileno
from kernelproof.impl.listenbuffer.listening import listen
from kernelproof.impl.listenbuffer.wake import RETRY_SECONDS

NAMES_MAX: Final = 1024
ANSWER_SECONDS: Final = 5.0

SECONDS_MAX: Final = 1e9
"""The longest time that is no `for ever`: some thirty years."""

NAMES_A_MESSAGE: Final = 16
"""A name takes up to 12 bytes of JSON for each of its characters."""

_WAIT_MAX: Final = 2**31 - 1  # poll(2) takes an int of milliseconds


class Kept(NamedTuple):
    """A set of descriptors under a name, until a moment of the monotonic clock (None: for ever)."""

    descriptors: tuple[int, ...]
    expires: float | None


class Holder:
    """The process's loop; one client at a time, each for one request.

    Args:
        path: The unix socket where it is asked, made with mode 0600.
        clock: The monotonic clock.
    """

    def __init__(self, path: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._socket = listen(f"unixpacket:{path}", gate=Gate(is_open=True), mode=0o600)
        self._socket.settimeout(0.0)
        self._clock = clock
        self._kept: dict[str, Kept] = {}

    def close(self) -> None:
        """Let everything go."""
        self._socket.close()
        for name in list(self._kept):
            self._drop(name)

    def serve(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Answer requests and drop what expires, until told to stop after one of them."""
        poll = select.poll()
        poll.register(self._socket.real_fileno(), select.POLLIN)
        while not until():
            self._expire()
            moments = [kept.expires for kept in self._kept.values() if kept.expires is not None]
            rest = None if not moments else min(max(0.0, min(moments) - self._clock()) * 1000 + 1, _WAIT_MAX)
            if poll.poll(rest):
                self.answer_one()

    def answer_one(self) -> None:
        """Accept one client and answer its request."""
        connection = self._accept()
        if connection is not None:
            with closing(connection), suppress(OSError):
                connection.settimeout(ANSWER_SECONDS)  # for one who asks and does not read
                self._answer(connection)

    def _accept(self) -> socket.socket | None:
        try:
            return self._socket.accept()[0]
        except BlockingIOError:
            return None
        except OSError:
            if self._socket.real_fileno() < 0:
                raise
            # What is kept leaves room for a connection, but others may have used it up.
            select.poll().poll(RETRY_SECONDS * 1000)
            return None

    def _answer(self, connection: socket.socket) -> None:
        try:
            messages.check_peer(connection)
            request = messages.expect(connection, list(self._verbs), ANSWER_SECONDS)
            if request.kind != "store":
                request.close()
            self._verbs[request.kind](self, connection, request)
        except (HandOverRefused, TimeoutError) as refused:
            messages.refuse(connection, refused)

    def _store(self, connection: socket.socket, request: messages.Message) -> None:
        try:
            if not request.descriptors or len(self._kept) >= NAMES_MAX:
                raise HandOverRefused("it cannot be kept: no descriptors came, or too many names are kept")
            name, kept = self._read(request)
        except HandOverRefused:
            request.close()
            raise
        self._kept[name] = kept
        messages.send(connection, "stored")

    def _read(self, message: messages.Message) -> tuple[str, Kept]:
        # A set that came, and its name, if they can be kept.
        name, seconds = message.fields.get("name"), message.fields.get("expires_seconds")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
            raise HandOverRefused(f"that name cannot be kept: a name has 1 to {NAME_MAX} characters")
        if name in self._kept:
            raise HandOverRefused(f"{name!r} is kept already, and cannot be kept twice")
        if seconds is None:
            return name, Kept(message.descriptors, None)
        if not isinstance(seconds, int | float) or not 0 <= seconds <= SECONDS_MAX:
            raise HandOverRefused(
                f"{name!r} cannot be kept: expires_seconds is a number of seconds from 0 to {SECONDS_MAX:g}, or none "
                "for ever"
            )
        return name, Kept(message.descriptors, self._clock() + seconds)

    def _take(self, connection: socket.socket, request: messages.Message) -> None:
        name = request.text("name")
        if name not in self._kept:
            raise HandOverRefused(f"nothing is kept as {name!r}")
        messages.send(connection, "taken", self._kept[name].descriptors, name=name)
        messages.expect(connection, ["received"], ANSWER_SECONDS).close()
        self._drop(name)

    def _list(self, connection: socket.socket, request: messages.Message) -> None:
        names = [(name, [len(kept.descriptors), self._rest(kept)]) for name, kept in sorted(self._kept.items())]
        for begin in range(0, len(names) or 1, NAMES_A_MESSAGE):
            end = begin + NAMES_A_MESSAGE
            messages.send(connection, "names", names=dict(names[begin:end]), more=end < len(names))

    def _transfer(self, connection: socket.socket, request: messages.Message) -> None:
        # Everything, a message for each name; it is let go only when all has arrived.
        for name, kept in self._kept.items():
            messages.send(connection, "set", kept.descriptors, name=name, expires_seconds=self._rest(kept))
        messages.send(connection, "end")
        messages.expect(connection, ["received"], ANSWER_SECONDS).close()
        for name in list(self._kept):
            self._drop(name)

    def _rest(self, kept: Kept) -> float | None:
        return None if kept.expires is None else max(0.0, kept.expires - self._clock())

    _verbs: Final = {"store": _store, "take": _take, "list": _list, "transfer": _transfer}

    def _expire(self) -> None:
        for name, kept in list(self._kept.items()):
            if kept.expires is not None and kept.expires <= self._clock():
                self._drop(name)

    def _drop(self, name: str) -> None:
        for descriptor in self._kept.pop(name).descriptors:
            os.close(descriptor)

    def take_from(self, path: str) -> int:
        """Take the whole set over from another holder; return the number of names.

        Raises:
            HandOverRefused: It refuses, ends in the middle, or has a name that is kept here or cannot be: it keeps
                everything then.
            TimeoutError: It does not answer.
            OSError: Nobody answers there.
        """
        taken: dict[str, Kept] = {}
        with ExitStack() as undo:
            connection = undo.enter_context(HolderClient(path)._ask("transfer"))
            while (message := messages.expect(connection, ["set", "end"], ANSWER_SECONDS)).kind == "set":
                undo.callback(message.close)
                name, kept = self._read(message)
                if name in taken:
                    raise HandOverRefused(f"{name!r} came twice")
                taken[name] = kept
            messages.send(connection, "received")
            undo.pop_all()
            connection.close()
        self._kept.update(taken)
        return len(taken)


class HolderClient:
    """The owner's side: each call is one request.

    Args:
        path: The holder's unix socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def _ask(self, kind: str, descriptors: Sequence[int] = (), **fields: object) -> _Connection:
        connection = _Connection(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(self._path)
            messages.send(connection, kind, descriptors, **fields)
        except BaseException:
            connection.close()
            raise
        return connection

    def store(self, name: str, sockets: Sequence[socket.socket], *, expires_seconds: float | None = None) -> None:
        """Have sockets kept under a name.

        Args:
            name: Of 1 to 255 characters.
            sockets: At least one, and at most 250.
            expires_seconds: How long they are kept, at most 1e9; None for ever.

        Raises:
            HandOverRefused: The name is taken, empty or too long, the time is none, or there are too many.
            OSError: Nobody answers there.
        """
        descriptors = [real_fileno(one) for one in sockets]
        with self._ask("store", descriptors, name=name, expires_seconds=expires_seconds) as connection:
            messages.expect(connection, ["stored"], ANSWER_SECONDS).close()

    def take(self, name: str) -> tuple[socket.socket, ...]:
        """Take the sockets of a name back; the holder lets them go.

        Raises:
            HandOverRefused: Nothing is kept under that name.
            OSError: Nobody answers there, or what was kept is no socket.
        """
        with self._ask("take", name=name) as connection:
            message = messages.expect(connection, ["taken"], ANSWER_SECONDS)
            messages.send(connection, "received")
        return tuple(socket.socket(fileno=descriptor) for descriptor in message.descriptors)

    def names(self) -> Mapping[str, int]:
        """Return the names that are kept, with the number of descriptors of each.

        Raises:
            HandOverRefused: The holder refuses, or ends in the middle.
            OSError: Nobody answers there.
        """
        found: dict[str, int] = {}
        with self._ask("list") as connection:
            more: object = True
            while more:
                fields = messages.expect(connection, ["names"], ANSWER_SECONDS).fields
                names, more = fields.get("names"), fields.get("more")
                if not isinstance(names, dict):
                    raise HandOverRefused("the holder's answer has no names")
                found |= {str(name): int(counted[0]) for name, counted in names.items()}
        return found


class _Connection(socket.socket):
    def __enter__(self) -> Self:
        return self


def main(arguments: Sequence[str]) -> int:
    """Keep sockets at a path; with a second path, take over another holder's set first."""
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m kernelproof.impl.listenbuffer.holder PATH [OLD-HOLDER]", file=sys.stderr)
        return 2
    with closing(Holder(arguments[0])) as holder:
        if len(arguments) == 2:
            holder.take_from(arguments[1])
        holder.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
