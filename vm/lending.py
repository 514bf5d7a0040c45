"""Templates of a run with workers: the process that controls them makes each one once, and they clone it.

Workers never boot and never build. They ask over a socket of this host and this user; what they get is where the
memory lies (`SessionTemplate.export`), and room for one machine after the other out of what the host has for all.
Workers on other hosts, which xdist reaches by ssh, make their own.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from kernelproof.vm.errors import GuestError, VmError
from kernelproof.vm.guest.frames import FrameReader, decode_message, encode_message
from kernelproof.vm.memory import HOST_SHARE_MIB, MIB, read_available
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import Collected, OpenSession, SessionPlan
from kernelproof.vm.snapshot import SessionTemplate

_CREDENTIALS = struct.Struct("3i")
_PIECE = 1 << 20
_END_SECONDS = 5.0  # for a template under way to be given up


class Budget:
    """The memory that all machines of a run share.

    Args:
        total_bytes: All there is.
    """

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes
        self._machines = 0
        self._changed = threading.Condition()

    def account(self, size_bytes: int) -> None:
        """Count what a template holds; less than nothing when it is given back."""
        with self._changed:
            self._left -= size_bytes
            self._changed.notify_all()

    def take(self, size_bytes: int) -> None:
        """Wait until a machine fits. One does not wait for nobody: alone it may try, and is told by the host."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= size_bytes or self._machines == 0)
            self._machines += 1
            self._left -= size_bytes

    def give_back(self, size_bytes: int) -> None:
        """A machine is gone."""
        with self._changed:
            self._machines -= 1
            self._left += size_bytes
            self._changed.notify_all()


class _Lent:
    """A template that is or will be there, and how much of its work is left."""

    def __init__(self, left: int) -> None:
        self.session: OpenSession | VmError = VmError("make template", "for a worker", "it was given up", "run again")
        self.made = threading.Event()
        self.size_bytes = 0
        self.left = left


class Lender:
    """Makes templates when the first worker asks for them, and drops them after their last item.

    Args:
        build: Makes the session of a plan; called in one thread at a time.
        cancel: Makes a `build` that is under way fail soon.
        budget: What machines share.
    """

    def __init__(
        self, build: Callable[[SessionPlan], OpenSession], cancel: Callable[[], None], budget: Budget | None = None
    ) -> None:
        self._build = build
        self._cancel = cancel
        self._budget = Budget(read_available()) if budget is None else budget
        self._lent: dict[tuple[MachineKey, tuple[Path, ...]], _Lent] = {}
        self._lock = threading.Lock()  # of what is lent; held for a moment, or while a session is written down
        self._building = threading.Lock()  # while it is held, others run what they have borrowed
        self._closed = False
        self._told: list[tuple[OpenSession, MachineKey, float]] = []
        self.address = f"kernelproof-{os.getpid()}-{secrets.token_hex(16)}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(f"\0{self.address}")  # a name without a file: nothing to leave behind
        self._socket.listen()
        self._start(self._accept)

    def take_told(self) -> list[tuple[OpenSession, MachineKey, float]]:
        """The sessions that were made since this was asked for the last time, with the seconds that it took."""
        told, self._told = self._told, []
        return told

    def close(self) -> None:
        """Lend no more, and give every template back; a second call changes nothing."""
        if self._closed:
            return
        self._closed = True
        self._cancel()
        with suppress(OSError):  # it wakes who waits in accept(2)
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._building.acquire(timeout=_END_SECONDS):
            with self._lock:
                for lent in self._lent.values():
                    _close(lent)
                self._lent.clear()
            self._building.release()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, name="kernelproof-lender", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # it was closed
                return
            if _is_own(connection):
                self._start(self._serve, connection)
            else:
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        machines = 0
        try:
            with connection, suppress(BrokenPipeError, ConnectionResetError):  # a worker may end while it is answered
                for message in _Messages(connection):
                    if message["kind"] == "open":
                        connection.sendall(encode_message(self._answer_open(message)))
                    elif message["kind"] == "room":
                        self._budget.take(HOST_SHARE_MIB * MIB)
                        machines += 1
                        connection.sendall(encode_message({"kind": "granted"}))
                    elif message["kind"] == "gone":
                        self._budget.give_back(HOST_SHARE_MIB * MIB)
                        machines -= 1
                    else:
                        self._count_down(_read_plan(message))
        finally:
            for _ in range(machines):  # the worker ended with its machines
                self._budget.give_back(HOST_SHARE_MIB * MIB)

    def _answer_open(self, message: Mapping[str, object]) -> dict[str, object]:
        plan = _read_plan(message)
        with self._lock:
            lent = self._lent.get((plan.key, plan.files))
            if is_first := lent is None:
                lent = self._lent[plan.key, plan.files] = _Lent(int(str(message["count"])))
        assert lent is not None
        if is_first:
            try:
                with self._building:
                    self._make(plan, lent)
            finally:
                lent.made.set()
        lent.made.wait()
        if isinstance(lent.session, VmError):
            error = lent.session
            remedy = f"{error.remedy}\n{error.text}" if isinstance(error, GuestError) else error.remedy
            return {"kind": "refused", "words": [error.step, error.subject, error.detail, remedy]}
        machines, collected = lent.session.machines, lent.session.collected
        assert isinstance(machines, SessionTemplate)
        answer = {name: collected.answer.get(name) for name in ("nodeids", "reports", "warnings")}
        return {
            "kind": "opened",
            "template": machines.export(),
            "facts": dict(lent.session.facts),
            "collected": answer,
        }

    def _make(self, plan: SessionPlan, lent: _Lent) -> None:
        began = time.monotonic()
        try:
            if self._closed:
                raise VmError("make template", str(plan.key), "the run is over", "run again")
            session = lent.session = self._build(plan)
        except VmError as error:
            lent.session = error
            return
        except OSError as error:
            lent.session = VmError("make template", str(plan.key), str(error), "see to that file or folder")
            return
        lent.size_bytes = session.machines.size_bytes if isinstance(session.machines, SessionTemplate) else 0
        self._budget.account(lent.size_bytes)
        self._told.append((session, plan.key, time.monotonic() - began))

    def _count_down(self, plan: SessionPlan) -> None:
        with self._lock:
            lent = self._lent.get((plan.key, plan.files))
            if lent is None:
                return
            lent.left -= 1
            if lent.left == 0:
                self._budget.account(-lent.size_bytes)
                _close(lent)  # with the lock: `close` must not take its files away while it writes itself down


def _close(lent: _Lent) -> None:
    if isinstance(lent.session, OpenSession):
        lent.session.machines.close()


def _is_own(connection: socket.socket) -> bool:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(data)[1]
    return uid == os.geteuid()


class _Messages:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = FrameReader()

    def __iter__(self) -> _Messages:
        return self

    def __next__(self) -> dict[str, object]:
        while (frame := self._reader.take()) is None:
            try:
                data = self._connection.recv(_PIECE)
            except ConnectionResetError:
                data = b""
            if not data:
                raise StopIteration
            self._reader.feed(data)
        return decode_message(frame[1])


def _write_plan(plan: SessionPlan) -> dict[str, object]:
    return {"key": list(plan.key), "files": [str(path) for path in plan.files], "session": dict(plan.message)}


def _read_plan(message: Mapping[str, object]) -> SessionPlan:
    key, files, session = message["key"], message["files"], message["session"]
    assert isinstance(key, list)
    assert isinstance(files, list)
    assert isinstance(session, dict)
    return SessionPlan(MachineKey(*map(str, key)), tuple(map(Path, files)), session)


class Borrower:
    """A worker's end.

    Args:
        address: The lender's.

    Raises:
        OSError: nobody is there.
    """

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(f"\0{address}")
        except OSError:
            self._socket.close()
            raise
        self._messages = _Messages(self._socket)

    def open(self, plan: SessionPlan, count: int) -> OpenSession:
        """The session of a plan.

        Args:
            plan: What it is made of.
            count: How many items of all workers will run in its machines.

        Raises:
            VmError: what the controller could not do, or it is gone.
        """
        answer = self._ask({"kind": "open", "count": count, **_write_plan(plan)})
        if answer["kind"] == "refused":
            words = answer["words"]
            assert isinstance(words, list)
            raise VmError(*map(str, words))
        template, facts, collected = (answer[name] for name in ("template", "facts", "collected"))
        assert isinstance(template, dict)
        assert isinstance(facts, dict)
        assert isinstance(collected, dict)
        return OpenSession(SessionTemplate.attach(template), facts, Collected(collected))

    def done(self, plan: SessionPlan) -> None:
        """One item of a plan has run."""
        self._tell({"kind": "done", **_write_plan(SessionPlan(plan.key, plan.files, {}))})

    def take(self) -> None:
        """Wait until there is room for one more machine.

        Raises:
            VmError: the controller is gone.
        """
        self._ask({"kind": "room"})

    def give_back(self) -> None:
        """Say that a machine is gone."""
        self._tell({"kind": "gone"})

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _ask(self, message: Mapping[str, object]) -> dict[str, object]:
        self._tell(message)
        answer = next(self._messages, None)
        if answer is None:
            raise VmError("borrow template", "from the controlling process", "it is gone", "run again")
        return answer

    def _tell(self, message: Mapping[str, object]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # seen when it is asked
            self._socket.sendall(encode_message(message))
