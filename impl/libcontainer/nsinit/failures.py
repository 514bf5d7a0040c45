"""What can make a call fail, and how it is told: one sentence, with what helps."""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.problems import ConfigError
from kernelproof.impl.libcontainer.operations import StartError
from kernelproof.impl.libcontainer.state import ContainerError

FAILURES = (ConfigError, ContainerError, StartError, OSError, LookupError, ValueError, RuntimeError)


def tell(error: BaseException) -> str:
    """An error as a line; notes, such as the system call and its flags, in brackets."""
    if isinstance(error, OSError) and error.strerror:
        places = [str(place) for place in (error.filename, error.filename2) if place is not None]
        text = ": ".join([*places, error.strerror.lower() if places else error.strerror])
    else:
        text = str(error) or type(error).__name__
    notes = getattr(error, "__notes__", ())
    return f"{text} ({'; '.join(notes)})" if notes else text
