"""One call of libc: its prototype, the conversion of its arguments, and the error it raises.

A prototype is declared once, as a module-level `Call`, and nothing is loaded before it is used:

    _umount2 = Call("umount2", target=STRING, flags=INT)
    _umount2(target, flags, path=target)

A refusal of the kernel is a plain OSError, so that Python picks PermissionError, FileNotFoundError and so on; the
call with its arguments, flags by name, is a note on it:

    PermissionError: [Errno 1] Operation not permitted: '/mnt'
    umount2(target='/mnt', flags=DETACH|NOFOLLOW)

ctypes would let three kinds of argument through in another shape than given; `Call` refuses them before the kernel
sees anything: a number that does not fit its C type (ctypes drops the high bits, so 2**32 becomes 0: the id of
root), a string with a NUL byte (C stops there), and a value of a wrong type.

This is not for calls that the standard library has (os.pidfd_open, os.memfd_create, fcntl.ioctl, termios …).
"""

from __future__ import annotations

import os
import sys

from kernelproof.impl._syscalls.architecture import UnsupportedPlatformError, system_call_number

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import IntEnum, IntFlag
    from typing import Final, NamedTuple, TypeAlias, TypeGuard
else:
    from kernelproof.impl._syscalls.named import NamedTuple

Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
Argument: TypeAlias = "int | Path | bytearray | memoryview | None"


class Kind(NamedTuple):
    """What a C parameter takes."""

    meaning: str
    c_type: str
    lowest: int = 0  # of a number
    highest: int = 0
    names: type[IntFlag] | type[IntEnum] | None = None  # how a note shows it

    def of(self, names: type[IntFlag] | type[IntEnum]) -> Kind:
        """The same kind, shown in notes by the names of these flags or numbers."""
        return self._replace(names=names)


INT: Final = Kind("number", "c_int", -(2**31), 2**31 - 1)
UINT: Final = Kind("number", "c_uint", 0, 2**32 - 1)
LONG: Final = Kind("number", "c_long", -sys.maxsize - 1, sys.maxsize)
ULONG: Final = Kind("number", "c_ulong", 0, 2 * sys.maxsize + 1)
STRING: Final = Kind("NUL-terminated text, or None for a null pointer", "c_char_p")
SECRET: Final = Kind("text as above whose values may be secrets: notes show the keys only", "c_char_p")
BYTES: Final = Kind("bytes for the kernel to read, NUL bytes included", "c_char_p")
BUFFER: Final = Kind("a bytearray for the kernel to write", "c_void_p")

_SHOWN_BYTES: Final = 256  # of one argument in a note


class Call:
    """A function of libc that returns -1 and sets errno when the kernel refuses.

    Args:
        name: the function's name in libc, and the system call's in the kernel.
        raw: call by number even where libc has the name: libc's function does more than the system call.
        parameters: the C parameters by name, in order, each of one of the kinds above.
    """

    __slots__ = ("_function", "_parameters", "_ranges", "_raw", "name")

    def __init__(self, name: str, /, *, raw: bool = False, **parameters: Kind) -> None:
        self.name = name
        self._raw = raw
        self._parameters = parameters
        # Where highest is 0 and lowest is 1 no number fits: the parameter takes none.
        self._ranges = [
            (name, kind.lowest, kind.highest) if kind.meaning == "number" else (name, 1, 0)
            for name, kind in parameters.items()
        ]
        self._function: Callable[..., int] | None = None

    def __call__(
        self, *values: Argument, path: Path | int | None = None, path2: Path | int | None = None, hide: str = ""
    ) -> int:
        """Call libc.

        Args:
            values: one for each parameter, in order.
            path: what the error names as filename.
            path2: what the error names as filename2.
            hide: a parameter that the note is not to show.

        Returns:
            What libc returned, which is not -1.

        Raises:
            OSError: the kernel refused; any errno of the call.
            OverflowError: a number does not fit its C type.
            ValueError: a string holds a NUL byte.
            TypeError: a value of a wrong type, or too few or too many of them.
            UnsupportedPlatformError: not Linux, or the machine is not in the table and libc lacks the name.
        """
        result = self._call(values)
        if result == -1:
            raise _refusal(self.describe(*values, hide=hide), path, path2)
        return result

    def attempt(self, *values: Argument) -> int:
        """Call libc, and return the negative errno where the kernel refused: for probes, to which that is an answer.

        Measured: an error with its note costs three times as much as the call.

        Raises:
            OverflowError, ValueError, TypeError, UnsupportedPlatformError: as above.
        """
        result = self._call(values)
        if result == -1:
            from _ctypes import get_errno  # loaded already: the call was made

            return -get_errno()
        return result

    def _call(self, values: tuple[Argument, ...]) -> int:
        if len(values) != len(self._parameters):
            raise TypeError(f"{self.name} takes {len(self._parameters)} arguments, not {len(values)}")
        # Measured: numbers, which most are, are looked at here; one more call for each would double the time of all.
        converted = [
            value
            if isinstance(value, int) and lowest <= value <= highest
            else _convert(self.name, parameter, self._parameters[parameter], value)
            for (parameter, lowest, highest), value in zip(self._ranges, values, strict=True)
        ]
        function = self._function or self._find()
        return function(*converted)

    def _find(self) -> Callable[..., int]:
        if sys.platform != "linux":
            raise UnsupportedPlatformError(f"{self.name} exists on Linux only, this is {sys.platform}")
        # Measured: 1 ms, more than a package that seldom needs it may take to import.
        from kernelproof.impl._syscalls import foreign

        kinds = [getattr(foreign, kind.c_type) for kind in self._parameters.values()]
        named = None if self._raw else foreign.find(self.name, kinds)
        if named is not None:
            self._function = named
            return named
        number = system_call_number(self.name)
        by_number = foreign.find("syscall", [foreign.c_long, *kinds], foreign.c_long)
        assert by_number is not None

        def call_by_number(*converted: object) -> int:
            return int(by_number(number, *converted))

        self._function = call_by_number
        return self._function

    def describe(self, *values: Argument, hide: str = "") -> str:
        """Return the call as text: parameters by name, flags by name, secrets left out."""
        shown = (
            f"{parameter}={'…' if parameter == hide else _show(kind, value)}"
            for (parameter, kind), value in zip(self._parameters.items(), values, strict=True)
        )
        return f"{self.name}({', '.join(shown)})"


def _refusal(call: str, path: Path | int | None, path2: Path | int | None) -> OSError:
    from _ctypes import get_errno  # loaded already: the call was made

    errno = get_errno()
    if path is None and path2 is None:
        error = OSError(errno, os.strerror(errno))
    else:
        error = OSError(errno, os.strerror(errno), _file_name(path), None, _file_name(path2))
    error.add_note(call)
    return error


def flag_names(names: type[IntFlag], value: int) -> str:
    """Return flags by name, and in hexadecimal what has none.

    >>> from kernelproof.impl._syscalls.mount import MountFlag
    >>> flag_names(MountFlag, 0x80005000)
    'BIND|REC|0x80000000'
    >>> flag_names(MountFlag, 0)
    '0'
    """
    words = [member.name or "" for member in names if member.value & value]
    rest = value & ~sum(names)
    return "|".join([*words, *([hex(rest)] if rest else [])]) or "0"


def _are_flags(names: type[IntFlag] | type[IntEnum]) -> TypeGuard[type[IntFlag]]:
    return any(base.__name__ == "IntFlag" for base in names.__mro__)  # of enum, or of numbered


def _show(kind: Kind, value: Argument) -> str:
    if kind.names is not None and isinstance(value, int):
        if _are_flags(kind.names):
            return flag_names(kind.names, value % (2 * (kind.highest + 1)) if value < 0 else value)
        return next((str(member.name) for member in kind.names if member == value), str(value))
    if kind == SECRET:
        return _secret(value)
    if kind == BYTES and isinstance(value, bytes) and not (value.isascii() and value.decode("ascii").isprintable()):
        return f"<{len(value)} bytes>"
    return _plain(value)


def _plain(value: Argument) -> str:
    if value is None or isinstance(value, int):
        return str(value)
    if isinstance(value, bytearray | memoryview):
        return f"<{len(value)} bytes>"
    text = os.fspath(value)
    cut = repr(text[:_SHOWN_BYTES])
    return cut if len(text) <= _SHOWN_BYTES else f"{cut}… ({len(text)} in all)"


def is_secret(key: str) -> bool:
    """Return whether an option of this name may hold a secret, so that no message should show its value."""
    return any(mark in key.lower() for mark in ("pass", "secret", "key", "cred"))


def _secret(value: Argument) -> str:
    # Data of a mount is a comma-separated list, and some filesystems take a password in it.
    if not isinstance(value, str | bytes):
        return _plain(value)
    text = os.fsdecode(value)
    words = [
        f"{key}=…" if equals and is_secret(key) else word
        for word in text.split(",")
        for key, equals, _ in [word.partition("=")]
    ]
    return _plain(",".join(words))


def _file_name(path: Path | int | None) -> str | bytes | int | None:
    return path if path is None or isinstance(path, int) else os.fspath(path)


def _convert(call: str, parameter: str, kind: Kind, value: Argument) -> object:
    if kind.meaning == "number":
        return _number(call, parameter, kind, value)
    if value is None:
        return None
    if kind == BUFFER:
        return _buffer(call, parameter, value)
    if isinstance(value, int | bytearray | memoryview):
        raise TypeError(f"{call}: {parameter} is a {type(value).__name__}, not text or a path")
    text = os.fsencode(value)
    if kind != BYTES and b"\0" in text:
        raise ValueError(f"{call}: {parameter} holds a NUL byte at {text.index(0)}: {text[:_SHOWN_BYTES]!r}")
    return text


def _number(call: str, parameter: str, kind: Kind, value: Argument) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{call}: {parameter} is a {type(value).__name__}, not a number")
    if not kind.lowest <= value <= kind.highest:
        raise OverflowError(
            f"{call}: {parameter}={value} does not fit a C {kind.c_type[2:]} ({kind.lowest} to {kind.highest})"
        )
    return int(value)


def _buffer(call: str, parameter: str, value: Argument) -> object:
    if not isinstance(value, bytearray):
        raise TypeError(f"{call}: {parameter} is a {type(value).__name__}, not a bytearray")
    from kernelproof.impl._syscalls.foreign import view  # see _find

    return view(value)


def pack_unsigned64(call: str, *numbers: int) -> bytes:
    """Return numbers as a structure with fields of 64 bits has them.

    Raises:
        OverflowError: one does not fit.
    """
    for number in numbers:
        if not 0 <= number < 2**64:
            raise OverflowError(f"{call}: {number} does not fit an unsigned 64-bit field")
    return b"".join(number.to_bytes(8, sys.byteorder) for number in numbers)


def address_of(buffer: bytearray) -> int:
    """Return the address of a buffer, for a structure that points to it; valid until the buffer is resized or freed."""
    from _ctypes import addressof  # see _find

    from kernelproof.impl._syscalls.foreign import view  # see _find

    return addressof(view(buffer))
