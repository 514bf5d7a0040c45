"""posix_spawn(3) with a working directory, which the standard library's has not.

No code of this process runs in the child: glibc and musl make it without copying memory, and call only system calls
between. So it is safe in a program with threads, where fork is not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kernelproof.impl._syscalls.architecture import UnsupportedPlatformError

if TYPE_CHECKING:
    import ctypes

_SETSIGDEF = 0x04
_SETSIGMASK = 0x08
_SETSID = 0x80  # glibc 2.26, musl 1.1.21
_OPAQUE_BYTES = 1024  # posix_spawnattr_t has 336, posix_spawn_file_actions_t 80, sigset_t 128


class Open(NamedTuple):
    """Open a path as a descriptor."""

    fd: int
    path: str
    flags: int


class Duplicate(NamedTuple):
    """Make a descriptor a copy of another one."""

    source: int
    fd: int


class Close(NamedTuple):
    """Close a descriptor."""

    fd: int


FileAction: TypeAlias = Open | Duplicate | Close


def spawn(
    path: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str,
    file_actions: Iterable[FileAction],
    default_signals: Iterable[int],
) -> int:
    """Start a program in a new session, with no signal blocked, and return its pid.

    Args:
        path: of the program; it is not searched for.
        argv: its arguments, the name first.
        env: its environment, and no more.
        cwd: its working directory.
        file_actions: done in order, after the new session was made and the directory was entered.
        default_signals: which signals have their default action in it.

    Raises:
        OSError: ENOENT, EACCES … of the program, of the directory or of a file to open: posix_spawn does not tell
            which; EAGAIN or ENOMEM.
        ValueError: a string holds a NUL byte.
        UnsupportedPlatformError: the C library has no posix_spawn_file_actions_addchdir_np (glibc 2.29, musl 1.1.24).

    Source: posix_spawn(3).
    """
    # Measured: importing ctypes costs 6 ms, and most programs are started without a directory.
    import ctypes

    library = ctypes.CDLL(None)
    if sys.platform != "linux" or not hasattr(library, "posix_spawn_file_actions_addchdir_np"):
        raise UnsupportedPlatformError("posix_spawn_file_actions_addchdir_np: the C library has no such function")
    actions, attributes = (ctypes.create_string_buffer(_OPAQUE_BYTES) for _ in range(2))
    _check("posix_spawn_file_actions_init", library.posix_spawn_file_actions_init(actions))
    try:
        _check("posix_spawnattr_init", library.posix_spawnattr_init(attributes))
        try:
            _add_actions(library, actions, cwd, file_actions)
            _set_attributes(library, attributes, default_signals)
            return _spawn(library, path, argv, env, actions, attributes)
        finally:
            library.posix_spawnattr_destroy(attributes)
    finally:
        library.posix_spawn_file_actions_destroy(actions)


_Buffer: TypeAlias = "ctypes.Array[ctypes.c_char]"


def _check(call: str, number: int, path: str | None = None) -> None:
    """These functions return the error number."""
    if number:
        error = OSError(number, os.strerror(number), path) if path else OSError(number, os.strerror(number))
        error.add_note(call)
        raise error


def _encode(text: str) -> bytes:
    data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError(f"posix_spawn: {text!r} holds a NUL byte")
    return data


def _add_actions(library: ctypes.CDLL, actions: _Buffer, cwd: str, file_actions: Iterable[FileAction]) -> None:
    prefix = "posix_spawn_file_actions_"
    _check(f"{prefix}addchdir_np", library.posix_spawn_file_actions_addchdir_np(actions, _encode(cwd)))
    for action in file_actions:
        if isinstance(action, Open):
            number = library.posix_spawn_file_actions_addopen(actions, action.fd, _encode(action.path), action.flags, 0)
        elif isinstance(action, Duplicate):
            number = library.posix_spawn_file_actions_adddup2(actions, action.source, action.fd)
        else:
            number = library.posix_spawn_file_actions_addclose(actions, action.fd)
        _check(f"{prefix}add: {action}", number)


def _set_attributes(library: ctypes.CDLL, attributes: _Buffer, default_signals: Iterable[int]) -> None:
    import ctypes  # loaded by the caller already

    flags = _SETSIGDEF | _SETSIGMASK | _SETSID
    _check("posix_spawnattr_setflags", library.posix_spawnattr_setflags(attributes, ctypes.c_short(flags)))
    signals = ctypes.create_string_buffer(_OPAQUE_BYTES)
    library.sigemptyset(signals)
    _check("posix_spawnattr_setsigmask", library.posix_spawnattr_setsigmask(attributes, signals))
    for number in default_signals:
        library.sigaddset(signals, int(number))
    _check("posix_spawnattr_setsigdefault", library.posix_spawnattr_setsigdefault(attributes, signals))


def _spawn(
    library: ctypes.CDLL,
    path: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    actions: _Buffer,
    attributes: _Buffer,
) -> int:
    import ctypes  # loaded by the caller already

    words = [_encode(word) for word in argv]
    settings = [_encode(f"{name}={value}") for name, value in env.items()]
    argument_array = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    environment_array = (ctypes.c_char_p * (len(settings) + 1))(*settings, None)
    pid = ctypes.c_int(0)
    number = library.posix_spawn(
        ctypes.byref(pid), _encode(path), actions, attributes, argument_array, environment_array
    )
    _check(f"posix_spawn({path!r}, {list(argv)!r})", number, path)
    return pid.value
