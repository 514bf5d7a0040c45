"""The side of a hand-over that serves: it gives its sockets to its successor and retires when that has answered.

What is said in which order is drawn in `handover`, whose other half is there.

Sources: unix(7), SCM_RIGHTS; tcp(7) and linux networking/ip-sysctl, tcp_migrate_req (what a closed listener resets).
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Final, Self

from kernelproof.impl.listenbuffer import messages
from kernelproof.impl.listenbuffer.elders import Elder, Elders, send_retire
from kernelproof.impl.listenbuffer.errors import GateClosed, HandOverFailed, HandOverRefused, ListenBufferError
from kernelproof.impl.listenbuffer.gate import Gate
from kernelproof.impl.listenbuffer.inherit import real_fileno
from kernelproof.impl.listenbuffer.listener import GatedListener
from kernelproof.impl.listenbuffer.listening import listen
from kernelproof.impl.listenbuffer.probes import make_probe, target_of, write_origin
from kernelproof.impl.listenbuffer.wake import RETRY_SECONDS

CONTROL: Final = "\0control"
"""The name of the control among the sockets: none that a caller can give."""

ENVIRONMENT: Final = "KERNELPROOF_HANDOVER"
"""Where `hand_over` tells the next generation the control's path."""

LISTENERS_MAX: Final = messages.DESCRIPTORS_MAX - 2
"""With them go the control, and what tells of this process's end."""

PROBE_SECONDS: Final = 5.0


class Generations:
    """This generation: its sockets, its successor, and what it still has to finish.

    Args:
        control: Path of the control, made with mode 0600; only this user and root are heard.
        listeners: The sockets by name, at most 248; their gates are paused when a successor takes over.
        ready_seconds: How long a successor may take to become ready.
        generation: The number of this generation.
        on_retire: Called when a successor serves.
        age_limit_seconds: How long older generations may take to end, in seconds; then they are killed (Linux). None
            for as long as they like.

    Attributes:
        retired: Set when a successor serves.

    Raises:
        ValueError: They are more than one message carries.
        OSError: As for `listen`.
    """

    def __init__(
        self,
        control: str,
        listeners: Mapping[str, GatedListener],
        *,
        ready_seconds: float = 60.0,
        generation: int = 1,
        on_retire: Callable[[], object] | None = None,
        age_limit_seconds: float | None = None,
        _inherited: GatedListener | None = None,
        _elders: Sequence[Elder] = (),
    ) -> None:
        if len(listeners) > LISTENERS_MAX:
            raise ValueError(f"{len(listeners)} listeners cannot be handed over: at most {LISTENERS_MAX}")
        self.control = control
        self.listeners = dict(listeners)
        self.generation = generation
        self.retired = threading.Event()
        self._ready_seconds = ready_seconds
        self._on_retire = on_retire
        self._busy = threading.Lock()  # a successor is asked
        self._starting = threading.Lock()  # a program is started to be the successor
        self._serving = 0
        self._idle = threading.Condition()
        # Open as long as the process lives; the end of the first tells who has the second.
        self._exit: tuple[int, int] | None = None
        self._elders = Elders(_elders, age_limit_seconds)
        self._socket = _inherited or listen(f"unixpacket:{control}", gate=Gate(is_open=True), mode=0o600)
        self._thread = threading.Thread(target=self._serve, daemon=True, name="hand-over")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop offering the sockets; they stay open."""
        self._socket.close()
        self._thread.join()
        self._elders.close()

    @property
    def elders(self) -> tuple[Elder, ...]:
        """The generations before this one that have not ended yet, the youngest first; on Linux."""
        return self._elders.alive()

    # --- the old generation's side -----------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self.retired.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if self._socket.gate.is_closed:
                    return
                self.retired.wait(RETRY_SECONDS)
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True, name="hand-over").start()

    def _answer(self, connection: socket.socket) -> None:
        # One successor at a time; a second one is told so at once.
        with closing(connection):
            try:
                messages.check_peer(connection)
                messages.expect(connection, ["take"], PROBE_SECONDS).close()
                if self.retired.is_set() or not self._busy.acquire(blocking=False):
                    raise HandOverRefused("another hand-over is under way, or over")
            except (HandOverRefused, TimeoutError) as refused:
                with suppress(OSError):
                    messages.refuse(connection, refused)
                return
            except OSError:
                return
            try:
                self._give(connection)
            except (ListenBufferError, OSError) as failed:
                with suppress(OSError):
                    messages.refuse(connection, failed)
            finally:
                self._busy.release()

    def _give(self, connection: socket.socket) -> None:
        sockets = {CONTROL: self._socket, **self.listeners}
        described = [
            {
                "name": name,
                "address": str(one.address),
                "file": [*one.owned.identity, one.owned.path] if one.owned else None,
                "limit": one.limit,
            }
            for name, one in sockets.items()
        ]
        if self._exit is None:
            ours, theirs = socket.socketpair()
            self._exit = ours.detach(), theirs.detach()
        descriptors = [self._exit[1], *(real_fileno(one) for one in sockets.values())]
        messages.send(connection, "sockets", descriptors, generation=self.generation, sockets=described)
        messages.expect(connection, ["ready"], self._ready_seconds).close()
        paused = _Paused(self.listeners)
        try:
            for name, listener in self.listeners.items():
                if listener.address.is_stream:
                    self._probe(connection, name, listener)
            paused.pass_on(connection)
            send_retire(connection, self.generation, self.elders)
        except BaseException:
            paused.resume()
            raise
        paused.let_go()
        self._retire()

    def _retire(self) -> None:
        # First of all: who is told to be retired closes the listeners, which must not remove the successor's files.
        for listener in [*self.listeners.values(), self._socket]:
            listener.release()
        with self._idle:
            self.retired.set()
            self._idle.notify_all()
        self._socket.close()
        self._elders.close()
        if self._on_retire is not None:
            self._on_retire()

    def _probe(self, connection: socket.socket, name: str, listener: GatedListener) -> None:
        # Connect through the shared socket from an address that the successor is told before.
        word = secrets.token_hex(16)
        with make_probe(listener) as probe:
            messages.send(connection, "probe", name=name, origin=write_origin(probe), word=word)
            messages.expect(connection, ["expecting"], PROBE_SECONDS).close()
            probe.settimeout(PROBE_SECONDS)
            try:
                probe.connect(target_of(listener))
                answer = probe.recv(64)
            except OSError as error:
                raise HandOverFailed(f"the successor did not answer at {name}: {error}") from error
            if answer != word.encode():
                raise HandOverFailed(f"somebody else answered at {name}")

    # --- what is still to be finished --------------------------------------------------------------------------------

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Count a connection or request as unfinished during a block."""
        with self._idle:
            self._serving += 1
        try:
            yield
        finally:
            with self._idle:
                self._serving -= 1
                self._idle.notify_all()

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until nothing is unfinished; return whether that came in time."""
        with self._idle:
            return self._idle.wait_for(lambda: self._serving == 0, timeout_seconds)

    # --- starting the next generation --------------------------------------------------------------------------------

    def hand_over(
        self, arguments: Sequence[str], *, timeout_seconds: float = 60.0, environment: Mapping[str, str] | None = None
    ) -> int:
        """Start the next generation and wait until it serves; return its process number, which the caller reaps.

        The program finds the control's path in its environment and calls `take_over()`.

        Args:
            arguments: The program, by its path, and its arguments.
            timeout_seconds: How long all of it may take, in seconds; then the program is killed.
            environment: The program's environment, None for this process's.

        Raises:
            HandOverRefused: A program is being started already, or a successor serves; nothing is started.
            HandOverFailed: It ended, or was too late; this generation goes on serving.
            OSError: It cannot be started.
        """
        if self.retired.is_set() or not self._starting.acquire(blocking=False):
            raise HandOverRefused("another hand-over is under way, or over")
        try:
            return self._start(arguments, timeout_seconds, os.environ if environment is None else environment)
        finally:
            self._starting.release()

    def _start(self, arguments: Sequence[str], timeout_seconds: float, environment: Mapping[str, str]) -> int:
        variables = {**environment, ENVIRONMENT: self.control}
        pid = os.posix_spawn(arguments[0], list(arguments), variables)
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(pid, ended), daemon=True, name="hand-over").start()
        with self._idle:
            self._idle.wait_for(lambda: self.retired.is_set() or ended.is_set(), timeout_seconds)
        if self.retired.is_set():
            return pid
        late = not ended.is_set()
        os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        raise HandOverFailed(f"the next generation {'was not ready in time' if late else f'ended with {status}'}")

    def _watch(self, pid: int, ended: threading.Event) -> None:
        # Tell when the process has ended, without reaping it: that is the caller's.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with self._idle:
            ended.set()
            self._idle.notify_all()


class _Paused:
    # Listeners that accept nobody while the successor is asked: what was open, and who was kept by their doormen.

    def __init__(self, listeners: Mapping[str, GatedListener]) -> None:
        self._listeners = listeners
        self._opened = [listener.gate for listener in listeners.values() if listener.gate.is_open]
        self._kept = {name: listener.dismiss_doorman() for name, listener in listeners.items()}
        for gate in self._opened:
            with suppress(GateClosed):
                gate.pause()

    def pass_on(self, connection: socket.socket) -> None:
        for name, kept in self._kept.items():
            for begin in range(0, len(kept), messages.DESCRIPTORS_MAX):
                some = [one.fileno() for one, _ in kept[begin : begin + messages.DESCRIPTORS_MAX]]
                messages.send(connection, "kept", some, name=name)

    def resume(self) -> None:
        for name, listener in self._listeners.items():
            listener.employ_doorman(self._kept[name])
        for gate in self._opened:
            with suppress(GateClosed):
                gate.open()

    def let_go(self) -> None:
        for kept in self._kept.values():
            for connection, _ in kept:
                connection.close()
