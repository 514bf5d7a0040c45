"""The attributes of a terminal as a value: saved, changed without a terminal, compared, printed, set again.

    state = save(0)
    restore(0, make_raw_state(state))
    print(state.diff(save(0)))      # lflag -ECHO -ICANON -IEXTEN -ISIG …

All constants are those of the termios module of the system this runs on, so the same code works on Linux, macOS and
the BSDs, whose flags have other values and other members.
"""

from __future__ import annotations

import errno
import os
import termios
from typing import NamedTuple, TypeAlias

from kernelproof.impl.term.calls import get_attributes, set_attributes, sigttou_blocked
from kernelproof.impl.term.errors import InvalidStateError

NOW = termios.TCSANOW
DRAIN = termios.TCSADRAIN
FLUSH = termios.TCSAFLUSH

# Names that some system has, by the field they belong to. Multi-bit fields stand beside their mask.
_FLAGS: dict[str, tuple[str, ...]] = {
    "iflag": (
        "IGNBRK", "BRKINT", "IGNPAR", "PARMRK", "INPCK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IUCLC", "IXON",
        "IXANY", "IXOFF", "IMAXBEL", "IUTF8",
    ),
    "oflag": ("OPOST", "OLCUC", "ONLCR", "OCRNL", "ONOCR", "ONLRET", "OFILL", "OFDEL", "OXTABS", "ONOEOT"),
    "cflag": ("CSTOPB", "CREAD", "PARENB", "PARODD", "HUPCL", "CLOCAL", "CRTSCTS", "CIGNORE", "MDMBUF"),
    "lflag": (
        "ISIG", "ICANON", "XCASE", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "TOSTOP", "ECHOCTL", "ECHOPRT",
        "ECHOKE", "FLUSHO", "PENDIN", "IEXTEN", "EXTPROC", "ALTWERASE", "NOKERNINFO",
    ),
}  # fmt: skip
_FIELDS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "iflag": (),
    "oflag": (("TABDLY", ("TAB0", "TAB1", "TAB2", "TAB3")),),
    "cflag": (("CSIZE", ("CS5", "CS6", "CS7", "CS8")),),
    "lflag": (),
}
_CHARACTERS = (
    "VINTR", "VQUIT", "VERASE", "VKILL", "VEOF", "VTIME", "VMIN", "VSWTC", "VSTART", "VSTOP", "VSUSP", "VDSUSP",
    "VEOL", "VREPRINT", "VDISCARD", "VWERASE", "VLNEXT", "VEOL2", "VSTATUS",
)  # fmt: skip

Attributes: TypeAlias = list[int | list[bytes | int]]


def _bits(*names: str) -> int:
    """Return the flags of these names that this system has."""
    value = 0
    for name in names:
        value |= int(getattr(termios, name, 0))
    return value


class TermState(NamedTuple):
    """The attributes of a terminal, as tcgetattr gives them."""

    iflag: int
    oflag: int
    cflag: int
    lflag: int
    input_speed: int  # as the system's constants B9600 and so on
    output_speed: int
    characters: tuple[int, ...]  # indexed by VINTR and so on; VMIN and VTIME are numbers

    def names(self, field: str) -> tuple[str, ...]:
        """Return the flags of "iflag", "oflag", "cflag" or "lflag" by name, in alphabetical order."""
        value = getattr(self, field)
        found = [name for name in _FLAGS[field] if (bit := getattr(termios, name, 0)) and value & bit == bit]
        for mask, choices in _FIELDS[field]:
            bits = getattr(termios, mask, 0)
            found += [name for name in choices if bits and getattr(termios, name, -1) == value & bits]
        return tuple(sorted(name for name in found if getattr(termios, name)))

    def character(self, name: str) -> int:
        """Return a control character, or the number VMIN or VTIME.

        Raises:
            LookupError: this system has no such character.
        """
        index: int | None = getattr(termios, name, None) if name in _CHARACTERS else None
        if index is None:
            raise LookupError(f"no control character {name!r}")
        return self.characters[index]

    def changed(self, *flags: str, **characters: int) -> TermState:
        """Return a state with flags set or cleared by name, and with other control characters.

        Args:
            flags: "+ECHO", "-ICANON" and so on; "+CS7" and "+TAB3" are one choice of several, which replaces another.
            characters: by the names of `character`, VINTR=3 say; 0 switches one off on Linux.

        Raises:
            LookupError: this system has no flag or control character of that name.
            ValueError: a flag without sign, a choice that is to be cleared, or a character that is not 0 to 255.

        >>> state = TermState(0, 0, 0, 0, 0, 0, (0,) * 32)
        >>> state.diff(state.changed("+ECHO", "+ICANON", VMIN=1))
        'lflag +ECHO +ICANON; VMIN 0->1'
        """
        state = self
        for flag in flags:
            field, mask, bits = _place(flag)
            value = getattr(state, field) & ~mask
            state = state._replace(**{field: value | bits})
        codes = list(state.characters)
        for name, code in characters.items():
            state.character(name)
            if not 0 <= code <= 255:
                raise ValueError(f"{name}={code} is no character: 0 to 255")
            codes[getattr(termios, name)] = code
        return state._replace(characters=tuple(codes))

    def __str__(self) -> str:
        """Return the flags by name, a line for each field, then the control characters."""
        lines = [f"{field} {' '.join(self.names(field)) or '-'}" for field in _FLAGS]
        known = {name: getattr(termios, name) for name in _CHARACTERS if hasattr(termios, name)}
        shown = (f"{name}={self.characters[index]}" for name, index in known.items() if index < len(self.characters))
        return "\n".join([*lines, f"characters {' '.join(shown)}"])

    def diff(self, other: TermState) -> str:
        """Return what differs in another state: flags with + or -, characters with both values; "" if nothing does."""
        parts = []
        for field in _FLAGS:
            here, there = set(self.names(field)), set(other.names(field))
            changes = [f"-{name}" for name in sorted(here - there)] + [f"+{name}" for name in sorted(there - here)]
            if not changes and getattr(self, field) != getattr(other, field):
                changes = [f"{getattr(self, field):#x}->{getattr(other, field):#x}"]
            if changes:
                parts.append(f"{field} {' '.join(changes)}")
        for name in _CHARACTERS:
            index = getattr(termios, name, len(self.characters))
            if index < len(self.characters) and self.characters[index] != other.characters[index]:
                parts.append(f"{name} {self.characters[index]}->{other.characters[index]}")
        for field in ("input_speed", "output_speed"):
            if getattr(self, field) != getattr(other, field):
                parts.append(f"{field} {getattr(self, field)}->{getattr(other, field)}")
        return "; ".join(parts)

    @property
    def is_canonical(self) -> bool:
        """Whether input comes in lines."""
        return bool(self.lflag & termios.ICANON)

    @property
    def echoes(self) -> bool:
        """Whether input is echoed."""
        return bool(self.lflag & termios.ECHO)

    def to_attributes(self) -> Attributes:
        """Return what termios.tcsetattr takes."""
        characters: list[bytes | int] = [bytes([number]) for number in self.characters]
        if not self.is_canonical:
            for name in ("VMIN", "VTIME"):
                characters[getattr(termios, name)] = self.characters[getattr(termios, name)]
        speeds = self.input_speed, self.output_speed
        return [self.iflag, self.oflag, self.cflag, self.lflag, *speeds, characters]


def _place(flag: str) -> tuple[str, int, int]:
    """Return the field of a signed flag, which bits of it are to be cleared, and which are to be set then."""
    sign, name = flag[:1], flag[1:]
    if sign not in ("+", "-"):
        raise ValueError(f"{flag!r} has no sign: +{flag} sets it, -{flag} clears it")
    bit: int | None = getattr(termios, name, None)
    for field, names in _FLAGS.items():
        if bit is not None and name in names:
            return field, bit, bit if sign == "+" else 0
        for mask, choices in _FIELDS[field]:
            if bit is not None and name in choices:
                if sign == "-":
                    raise ValueError(f"{flag!r} is one choice of several: set another one of {', '.join(choices)}")
                return field, int(getattr(termios, mask)), bit
    raise LookupError(f"no flag {name!r} of a terminal here")


def from_attributes(attributes: Attributes) -> TermState:
    """Return the state that termios.tcgetattr gave.

    Raises:
        InvalidStateError: it is no such list.
    """
    *numbers, characters = attributes or [0]
    codes = tuple(ord(each) if isinstance(each, bytes) and len(each) == 1 else each for each in _items(characters))
    flat = (*numbers, *codes)
    if len(numbers) != 6 or not codes or not all(isinstance(each, int) for each in flat):
        raise InvalidStateError(f"{attributes!r} is not what tcgetattr gives")
    return TermState._make((*numbers, codes))


def _items(characters: object) -> list[bytes | int]:
    return characters if isinstance(characters, list) else []


def save(fd: int) -> TermState:
    """Return the attributes of a terminal.

    Args:
        fd: a descriptor of it; on Linux also the master's.

    Raises:
        OSError: ENOTTY no terminal; EBADF no open descriptor; EIO hung up.

    Source: tcgetattr(3).
    """
    return from_attributes(get_attributes(fd))


def restore(fd: int, state: TermState, when: int = NOW) -> TermState:
    """Set the attributes of a terminal, from the background too, and return what it really took.

    tcsetattr succeeds if any part of the request could be met: a pseudoterminal stays at CS8 whatever is asked.

    Args:
        fd: a descriptor of it.
        state: from `save`, or made from one.
        when: NOW, DRAIN (after what was written is out), or FLUSH (and input that nobody read thrown away).

    Raises:
        OSError: ENOTTY, EBADF, EIO as for save; EINVAL if nothing of the request could be met.

    Source: tcsetattr(3).
    """
    with sigttou_blocked():
        set_attributes(fd, when, state.to_attributes())
    return save(fd)


def make_raw_state(state: TermState, *, keep_output_processing: bool = False) -> TermState:
    """Return a state in raw mode: every byte passes at once and as it is, nothing is echoed, no key makes a signal.

    Args:
        state: to start from; what is not named in cfmakeraw(3) stays.
        keep_output_processing: leave newlines written to be turned into carriage return and newline.

    Source: termios(3), cfmakeraw; VMIN is set to 1 and VTIME to 0 besides, which the page leaves as they were.
    """
    lowered = state.cflag & ~_bits("CSIZE", "PARENB")
    return _with_minimum(
        state._replace(
            iflag=state.iflag & ~_bits("IGNBRK", "BRKINT", "PARMRK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IXON"),
            oflag=state.oflag if keep_output_processing else state.oflag & ~_bits("OPOST"),
            cflag=lowered | _bits("CS8"),
            lflag=state.lflag & ~_bits("ECHO", "ECHONL", "ICANON", "ISIG", "IEXTEN"),
        )
    )


def make_cbreak_state(state: TermState) -> TermState:
    """Return a state in which every byte comes at once and without echo, while keys still make signals."""
    return _with_minimum(state._replace(lflag=state.lflag & ~_bits("ECHO", "ICANON")))


def make_no_echo_state(state: TermState) -> TermState:
    """Return a state that does not echo what is typed; lines and signals stay as they are."""
    return state._replace(lflag=state.lflag & ~_bits("ECHO"))


def _with_minimum(state: TermState) -> TermState:
    characters = list(state.characters)
    characters[termios.VMIN] = 1
    characters[termios.VTIME] = 0
    return state._replace(characters=tuple(characters))


def is_terminal(fd: int) -> bool:
    """Return whether a descriptor is a terminal.

    Raises:
        OSError: EBADF no open descriptor; EIO a terminal that was hung up. Neither says that it is none.

    Source: isatty(3), tcgetattr(3), ERRORS.
    """
    try:
        get_attributes(fd)
    except OSError as error:
        # What systems answer for a pipe, a file, a device or a socket.
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP):
            return False
        raise
    return True


def get_fd_info(file: object) -> tuple[int, bool]:
    """Return the descriptor of a file object, or of a number, and whether it is a terminal.

    Raises:
        TypeError: it has no descriptor.
        OSError: as is_terminal.
    """
    fileno = getattr(file, "fileno", None)
    fd = file if isinstance(file, int) else fileno() if callable(fileno) else None
    if not isinstance(fd, int):
        raise TypeError(f"a {type(file).__name__} has no descriptor")
    return fd, is_terminal(fd)


def set_blocking(fd: int, blocking: bool) -> bool:
    """Set whether reads and writes of the open file wait, and return whether they did before.

    The flag belongs to the open file, so everybody who has a descriptor of it is concerned.
    """
    before = os.get_blocking(fd)
    if before != blocking:
        os.set_blocking(fd, blocking)
    return before
