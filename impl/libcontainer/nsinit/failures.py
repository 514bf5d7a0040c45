"""What can make a call fail, and how it is told: one sentence, with what helps."""

from __future__ import annotations

import sys

from kernelproof.impl.libcontainer.state import ContainerError

_KNOWN = (ContainerError, OSError, LookupError, ValueError, RuntimeError)
_STARTING = "kernelproof.impl.libcontainer.operations"  # measured, with what it needs: 0.3 ms, and `state` needs none


def known_failures() -> tuple[type[Exception], ...]:
    """What is told as one sentence, ConfigError as a ValueError; whatever else is raised is this program's mistake."""
    operations = sys.modules.get(_STARTING)  # where nobody loaded it, nobody raises a StartError
    return _KNOWN if operations is None else (*_KNOWN, operations.StartError)


def tell(error: BaseException) -> str:
    """An error as a line; notes, such as the system call and its flags, in brackets."""
    if isinstance(error, OSError) and error.strerror:
        places = [str(place) for place in (error.filename, error.filename2) if place is not None]
        text = ": ".join([*places, error.strerror.lower() if places else error.strerror])
    else:
        text = str(error) or type(error).__name__
    notes = getattr(error, "__notes__", ())
    return f"{text} ({'; '.join(notes)})" if notes else text
