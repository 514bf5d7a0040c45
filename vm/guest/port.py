"""The guest's end of the channel: messages over one file descriptor, blocking.

The descriptor is the virtio port in a machine, or one end of a socket pair in a test without any. One thread, one
message in flight, no timeout: in virtual time a guest that waits for its host with a timeout times out at once.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping

from kernelproof.vm.guest.frames import (
    BYTES,
    JSON,
    FrameError,
    FrameReader,
    decode_message,
    encode_frame,
    encode_header,
    encode_message,
)

FORKED = 70  # exit status of a forked child that would have used its parent's port

_READ_BYTES = 65536

_getpid = os.getpid  # a test may replace the module's


class Port:
    """Sends and receives messages.

    Args:
        descriptor: Open for reading and writing; the caller closes it.
        on_wake: Called with the value of `wake` of a message that bears one, before the message is handed out: the
            first message to a clone carries the time and the entropy that make it a machine of its own.
        on_rest: Called before the wait in which the snapshot is taken.
    """

    def __init__(
        self,
        descriptor: int,
        on_wake: Callable[[Mapping[str, object]], None] | None = None,
        on_rest: Callable[[], None] | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._on_wake = on_wake
        self._on_rest = on_rest
        self._reader = FrameReader()
        self._owner = _getpid()
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLIN)
        self._wakeful = False

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def wake(self, wake: Mapping[str, object]) -> None:
        """Apply a wake."""
        if self._on_wake is not None:
            self._on_wake(wake)

    def stay_awake(self) -> None:
        """Wait for the next message without sleeping: the snapshot is about to be taken.

        A clone then finds itself in the middle of asking, and does not run what a kernel runs to wake up a CPU and a
        process: a tenth of a short test.
        """
        self._wakeful = True

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message.

        Raises:
            FrameError: it is not plain data, or longer than a frame.
            OSError: EPIPE (a socket whose other end is gone) and what else write(2) refuses.
        """
        self._write(encode_message(message))

    def send_bytes(self, data: bytes) -> None:
        """Send raw bytes that a message announced: at most `frames.MAX_PAYLOAD`.

        Raises:
            FrameError: too long for a frame.
            OSError: as for `send`.
        """
        self._write(encode_frame(BYTES, data))

    def receive(self) -> dict[str, object]:
        """Wait for the next message; its `wake` is applied and taken out.

        Raises:
            EOFError: the host is gone.
            FrameError: not a message.
        """
        if self._wakeful:
            self._wakeful = False
            if self._on_rest is not None:
                self._on_rest()
            while not self._ready.poll(0):
                pass
        message = decode_message(self._receive_frame(JSON))
        wake = message.pop("wake", None)
        if self._on_wake is not None and isinstance(wake, dict):
            self._on_wake(wake)
        return message

    def receive_bytes(self) -> bytes:
        """Wait for the next frame of raw bytes.

        Raises:
            EOFError: the host is gone.
            FrameError: a message came instead.
        """
        return self._receive_frame(BYTES)

    @property
    def descriptor(self) -> int:
        """What poll(2) says may be read."""
        return self._descriptor

    def take(self) -> tuple[bytes, bytes] | None:
        """A frame of any kind that was read already, or None."""
        return self._reader.take()

    def read(self) -> None:
        """Read what there is, or wait for it; `take` has the frames.

        Raises:
            EOFError: the host is gone.
        """
        data = os.read(self._descriptor, _READ_BYTES)
        if not data:
            raise EOFError("the host closed the channel")
        self._reader.feed(data)

    def send_frame(self, frame: bytes) -> None:
        """Send a frame that was encoded already; errors as for `send`."""
        self._write(frame)

    def _receive_frame(self, wanted: bytes) -> bytes:
        while (frame := self._reader.take()) is None:
            data = os.read(self._descriptor, _READ_BYTES)
            if not data:
                raise EOFError("the host closed the channel")
            if (
                len(data) < _READ_BYTES
                and not self._reader.pending
                and data[:5] == encode_header(wanted, len(data) - 5)
            ):
                return data[5:]  # one whole frame: what a clone reads first, with as little code as can be
            self._reader.feed(data)
        kind, payload = frame
        if kind != wanted:
            raise FrameError(f"a frame of kind {kind!r} came where {wanted!r} was due")
        return payload

    def _write(self, data: bytes) -> None:
        if _getpid() != self._owner:
            os._exit(
                FORKED
            )  # a child that a test forked ran past the end of its test: it must not answer for its parent
        written = os.write(self._descriptor, data)
        if written < len(data):
            view = memoryview(data)[written:]
            while view:
                view = view[os.write(self._descriptor, view) :]
