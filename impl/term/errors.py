"""What can go wrong with terminals.

    TerminalError
    ├── InvalidStateError (ValueError)       no saved state, or none of a terminal; ErrInvalidState of 2014
    ├── UnknownKeyError (ValueError)         a key of a detach sequence has no such name
    ├── EscapeError (EOFError)               the detach sequence was typed
    ├── NotPseudoterminalError (ValueError)  a descriptor is no end of a pseudoterminal, or another one than it says
    ├── ConsoleSocketError (ValueError)      a console socket carried something else than one master
    └── RecordingError (ValueError)          a recording that is no asciicast v2

What the kernel refused stays an OSError; on a descriptor that is no terminal that is ENOTTY, with the call in a note.
"""

from __future__ import annotations


class TerminalError(Exception):
    """Root of what this package raises."""


class InvalidStateError(TerminalError, ValueError):
    """There is no saved state to restore."""

    def __init__(self, what: str = "no saved state of a terminal") -> None:
        super().__init__(f"Invalid terminal state: {what}")


class UnknownKeyError(TerminalError, ValueError):
    """A key has no such name."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"Unknown character: '{key}'; keys are single ASCII characters, ctrl-a to ctrl-z, ctrl-@, ctrl-[, ctrl-\\, "
            f"ctrl-], ctrl-^, ctrl-_ and DEL, with commas between"
        )
        self.key = key


class EscapeError(TerminalError, EOFError):
    """The detach sequence was typed."""

    def __init__(self) -> None:
        super().__init__("read escape sequence")


class NotPseudoterminalError(TerminalError, ValueError):
    """A descriptor is no end of a pseudoterminal, or of another one than it says."""


class ConsoleSocketError(TerminalError, ValueError):
    """What came over a console socket is not one master and its name."""


class RecordingError(TerminalError, ValueError):
    """A file is no recording in asciicast v2; the text has the line."""


ErrInvalidState = InvalidStateError  # the name of 2014
