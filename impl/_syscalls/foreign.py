"""Functions of libc by what ctypes is made of: that module makes forty types when it is loaded, and few are needed.

Not here: structures, pointers, callbacks and other libraries, for which there is ctypes.

Source: Python documentation, ctypes, "Foreign functions".
"""

from __future__ import annotations

from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, dlopen, dlsym

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    _Number = _SimpleCData[int]
    _Bytes = _SimpleCData[bytes]
else:
    _Number = _Bytes = _SimpleCData

_NOW = 2  # RTLD_NOW


class c_int(_Number):
    """C's int."""

    _type_ = "i"


class c_uint(_Number):
    """C's unsigned int."""

    _type_ = "I"


class c_long(_Number):
    """C's long."""

    _type_ = "l"


class c_ulong(_Number):
    """C's unsigned long."""

    _type_ = "L"


class c_char(_Bytes):
    """C's char."""

    _type_ = "c"


class c_char_p(_Bytes):
    """C's char *, ended by a zero byte."""

    _type_ = "z"


class c_void_p(_Number):
    """C's void *, as a number."""

    _type_ = "P"


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = c_int


_libc = dlopen(None, _NOW)  # type: ignore[arg-type]  # the stubs forget None


def find(name: str, arguments: Sequence[Any], result: Any = c_int) -> Callable[..., int] | None:
    """A function of libc, which keeps its errno for `_ctypes.get_errno`; None if there is none of that name."""
    try:
        function = _Function(dlsym(_libc, name))
    except OSError:
        return None
    function.argtypes, function.restype = arguments, result
    return function


def view(buffer: bytearray) -> Any:
    """A buffer as an array of bytes for a function to write; it can't be resized as long as that is there."""
    return (c_char * len(buffer)).from_buffer(buffer)
