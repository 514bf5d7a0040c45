"""What the system refused, in words."""

from __future__ import annotations


def describe_refusal(error: OSError) -> str:
    """What the system refused, and for which file."""
    names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{names or 'system call'}: {error.strerror or error}"
