"""One connection to the bus of systemd's system or user manager: calls and signals, each with a deadline."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from kernelproof.impl.cgroups.errors import NoControllerError, SystemdError

_NAME, _PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"

Signals = deque[Any]


def _library(part: str = "") -> Any:
    # An extra of this distribution: who does without systemd does without it.
    try:
        return import_module(f"jeepney{part}")
    except ModuleNotFoundError as missing:
        raise NoControllerError(
            "systemd is spoken to over D-Bus, for which jeepney is needed: pip install 'kernelproof[systemd]'"
        ) from missing


class Bus:
    """A connection. Use it in a `with`, or close it.

    Args:
        connection: of jeepney; owned from here on.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    def open(cls, *, user: bool = False, timeout_seconds: float = 30.0) -> Bus:
        """Connect.

        Args:
            user: to the user's own manager; else to the system's.
            timeout_seconds: for the bus to let this process in.

        Raises:
            TimeoutError: the bus did not answer in time.
            NoControllerError: there is no such bus, with its address; or no jeepney.
            OSError: EACCES and others of connect(2).
        """
        address = _address(user)
        try:
            return cls(_library(".io.blocking").open_dbus_connection(bus=address, auth_timeout=timeout_seconds))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            who = "the user's manager" if user else "systemd"
            raise NoControllerError(f"no bus of {who} at {address}: {error.strerror}") from error

    def call(
        self, member: str, signature: str, *values: object, timeout_seconds: float, path: str = _PATH,
        interface: str = MANAGER,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Call a method and return what it answers.

        Raises:
            SystemdError: the answer is an error, with its name.
            TimeoutError: none came in time.
        """
        library = _library()
        address = library.DBusAddress(path, _NAME, interface)
        message = library.new_method_call(address, member, signature or None, values)
        return self._ask(message, member, timeout_seconds)

    def _ask(self, message: Any, member: str, timeout_seconds: float) -> tuple[Any, ...]:
        library = _library()
        reply = self._connection.send_and_get_reply(message, timeout=timeout_seconds)
        if reply.header.message_type == library.MessageType.error:
            name = reply.header.fields.get(library.HeaderFields.error_name, "")
            raise SystemdError(member, name, str(reply.body[0]) if reply.body else "")
        answer: tuple[Any, ...] = reply.body
        return answer

    @contextmanager
    def signals(self, member: str, timeout_seconds: float) -> Iterator[Signals]:
        """Collect a signal of the manager for the block of a `with`; nothing that comes after its begin is lost."""
        library = _library()
        rule = library.MatchRule(type="signal", sender=_NAME, interface=MANAGER, member=member, path=_PATH)
        self._ask(library.message_bus.AddMatch(rule), "AddMatch", timeout_seconds)
        queue: Signals = deque()
        # The sender of a signal is a number, not the name: the bus has looked at that.
        heard = library.MatchRule(type="signal", interface=MANAGER, member=member, path=_PATH)
        with self._connection.filter(heard, queue=queue):
            yield queue
        self._ask(library.message_bus.RemoveMatch(rule), "RemoveMatch", timeout_seconds)

    def next_signal(self, queue: Signals, timeout_seconds: float) -> tuple[Any, ...]:
        """The next signal that was collected.

        Raises:
            TimeoutError: none came in time.
        """
        body: tuple[Any, ...] = self._connection.recv_until_filtered(queue, timeout=timeout_seconds).body
        return body

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _address(user: bool) -> str:
    if not user:
        return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "") or _SYSTEM_BUS
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS", ""):
        return address
    if runtime := os.environ.get("XDG_RUNTIME_DIR", ""):
        return f"unix:path={runtime}/bus"
    raise NoControllerError("no user's manager: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set")
