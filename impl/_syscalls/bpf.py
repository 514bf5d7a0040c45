"""bpf(2): load a program, attach it to a cgroup, ask which are attached.

Each call hands the kernel a whole zeroed union: some releases write behind the size that they were told.
"""

from __future__ import annotations

import errno
import os
import struct

from kernelproof.impl._syscalls.libc import BUFFER, INT, UINT, Call, address_of

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntEnum, IntFlag
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple
    from kernelproof.impl._syscalls.numbered import IntEnum, IntFlag

_ATTR_BYTES = 256  # more than union bpf_attr of any release has; the kernel takes what it does not know if it is zero
_LOG_BYTES = 1 << 20
_MOST_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS


class Command(IntEnum):
    """BPF_ commands of bpf(2) that are used here."""

    PROG_LOAD = 5
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_GET_FD_BY_ID = 13
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16


class ProgramType(IntEnum):
    """BPF_PROG_TYPE_ values."""

    CGROUP_DEVICE = 15


class AttachType(IntEnum):
    """BPF_CGROUP_ values of enum bpf_attach_type."""

    DEVICE = 6


class AttachFlag(IntFlag):
    """BPF_F_ flags of an attachment."""

    ALLOW_OVERRIDE = 1
    ALLOW_MULTI = 2
    REPLACE = 4


class Loaded(NamedTuple):
    """What the kernel says of a loaded program.

    Attributes:
        type: a ProgramType's number.
        id: of the program in this kernel.
        tag: eight bytes, the same for the same instructions.
        name: at most 15 bytes.
        instructions: as the kernel rewrote them; empty without CAP_PERFMON or CAP_SYS_ADMIN.
    """

    type: int
    id: int
    tag: bytes
    name: str
    instructions: bytes


_bpf = Call("bpf", command=INT.of(Command), attributes=BUFFER, size=UINT)


def _call(command: Command, packed: bytes) -> tuple[int, bytearray]:
    attributes = bytearray(packed.ljust(_ATTR_BYTES, b"\0"))
    return _bpf(command, attributes, len(attributes)), attributes


def load_program(kind: int, instructions: bytes, *, name: str = "", license_text: str = "Apache-2.0") -> int:
    """Load a program and return its descriptor, which the caller closes; it is close-on-exec.

    Args:
        kind: a ProgramType.
        instructions: eight bytes each.
        name: at most 15 letters, digits, dots and underscores.
        license_text: programs that call functions of the kernel's own need one that fits the GPL.

    Raises:
        OSError: EINVAL, EACCES: the verifier refuses it, with its log as a note; EPERM: CAP_BPF or CAP_SYS_ADMIN is
            missing; E2BIG: too many instructions; ENOSYS.

    Source: bpf(2), BPF_PROG_LOAD.
    """
    code, text = bytearray(instructions), bytearray(license_text.encode("ascii") + b"\0")

    def pack(log: bytearray | None) -> bytes:
        where = (1, len(log), address_of(log)) if log is not None else (0, 0, 0)
        count = len(code) // 8
        return struct.pack(
            "=IIQQIIQII16s", kind, count, address_of(code), address_of(text), *where, 0, 0, name.encode()
        )

    try:
        return _call(Command.PROG_LOAD, pack(None))[0]
    except OSError as first:
        if first.errno not in (errno.EINVAL, errno.EACCES):
            raise
        log = bytearray(_LOG_BYTES)
        try:
            return _call(Command.PROG_LOAD, pack(log))[0]
        except OSError as error:
            said = bytes(log).partition(b"\0")[0].decode("utf-8", "replace").strip()
            error.add_note(f"verifier: {said}")
            raise


def attach_program(target_fd: int, program_fd: int, kind: int, flags: int = 0, replaced_fd: int = 0) -> None:
    """Attach a program to a cgroup. It stays when its descriptor is closed, until it is detached or the cgroup ends.

    Args:
        target_fd: the cgroup's directory.
        program_fd: of `load_program`.
        kind: an AttachType.
        flags: AttachFlag bits.
        replaced_fd: with REPLACE the program that it takes the place of, in one step (Linux 5.6).

    Raises:
        OSError: EPERM: an ancestor's attachment allows no other, or a capability is missing; EINVAL; ENOENT: the one
            to replace is not attached; E2BIG: 64 are attached.

    Source: linux/bpf.h, BPF_PROG_ATTACH.
    """
    _call(Command.PROG_ATTACH, struct.pack("=IIIII", target_fd, program_fd, kind, flags, replaced_fd))


def detach_program(target_fd: int, program_fd: int, kind: int) -> None:
    """Detach a program.

    Raises:
        OSError: ENOENT: it is not attached; EPERM.
    """
    _call(Command.PROG_DETACH, struct.pack("=III", target_fd, program_fd, kind))


def query_programs(target_fd: int, kind: int, *, effective: bool = False) -> tuple[int, ...]:
    """IDs of the programs that are attached to a cgroup; with `effective` those of its ancestors that apply too.

    Raises:
        OSError: EPERM: CAP_NET_ADMIN or CAP_SYS_ADMIN is missing; EBADF.

    Source: linux/bpf.h, BPF_PROG_QUERY.
    """
    ids = bytearray(4 * _MOST_PROGRAMS)
    packed = struct.pack("=IIIIQI", target_fd, kind, int(effective), 0, address_of(ids), _MOST_PROGRAMS)
    _, answer = _call(Command.PROG_QUERY, packed)
    (count,) = struct.unpack_from("=I", answer, 24)
    return struct.unpack_from(f"={min(count, _MOST_PROGRAMS)}I", ids)


def open_program(program_id: int) -> int:
    """Open a loaded program by its ID; the caller closes the descriptor.

    Raises:
        OSError: ENOENT: there is none; EPERM: CAP_SYS_ADMIN is missing.
    """
    return _call(Command.PROG_GET_FD_BY_ID, struct.pack("=III", program_id, 0, 0))[0]


def describe_program(program_fd: int) -> Loaded:
    """What the kernel says of a program.

    Raises:
        OSError: EBADF, EPERM.

    Source: linux/bpf.h, struct bpf_prog_info.
    """
    info = bytearray(512)
    for length in (0, None):
        if length is None:
            (size,) = struct.unpack_from("=I", info, 20)
            code = bytearray(size or 8)
            info = bytearray(512)
            struct.pack_into("=I", info, 20, size)
            struct.pack_into("=Q", info, 32, address_of(code))
        _call(Command.OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", program_fd, len(info), address_of(info)))
    kind, number, tag = struct.unpack_from("=II8s", info)
    name = bytes(info[64:80]).partition(b"\0")[0].decode("ascii", "replace")
    has_code = struct.unpack_from("=Q", info, 32)[0] != 0
    return Loaded(kind, number, tag, name, bytes(code[:size]) if has_code else b"")


def close(fd: int) -> None:
    """Close a program's descriptor."""
    os.close(fd)
