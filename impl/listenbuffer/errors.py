"""What can go wrong with a listener and its gate.

ListenBufferError
├── InvalidAddress     (ValueError)    a protocol, host, port or path that cannot be one
├── WrongDescriptor    (ValueError)    an inherited descriptor that is no socket, or another one than was asked for
├── AlreadyActive      (RuntimeError)  activated twice, where once was promised
├── GateClosed         (RuntimeError)  the gate was closed for good
├── ActivationTimeout  (TimeoutError)  nobody opened the gate before the deadline for it
├── HandOverFailed     (RuntimeError)  the next generation died, was too late, or did not answer; the old one serves
└── HandOverRefused    (RuntimeError)  another hand-over is under way, or the other side speaks another protocol

What the kernel refused stays a plain `OSError`; for an address in use a note says by whom, as far as that can be seen.
"""


class ListenBufferError(Exception):
    """Root of all errors of this package."""


class InvalidAddress(ListenBufferError, ValueError):
    """A protocol, host, port or path that cannot be one."""


class WrongDescriptor(ListenBufferError, ValueError):
    """An inherited descriptor that is no socket, or another one than was asked for."""


class AlreadyActive(ListenBufferError, RuntimeError):
    """Activated twice, where once was promised."""


class GateClosed(ListenBufferError, RuntimeError):
    """The gate was closed for good."""


class ActivationTimeout(ListenBufferError, TimeoutError):
    """Nobody opened the gate before the deadline for it; the listener is closed."""


class HandOverFailed(ListenBufferError, RuntimeError):
    """The next generation died, was too late, or did not answer; the old one goes on serving."""


class HandOverRefused(ListenBufferError, RuntimeError):
    """Another hand-over is under way, or the other side speaks another protocol."""
