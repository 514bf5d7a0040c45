"""Rules about devices put on a cgroup and read back, of either version.

On version 2 the new program is attached in the place of the old one, in one step where the kernel can (Linux 5.6),
else before the old one is taken away: there is no moment without rules. It stays when its maker has ended.
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls import bpf
from kernelproof.impl.cgroups import writes
from kernelproof.impl.cgroups.devices.lists import parse_list, plan_list, plan_writes
from kernelproof.impl.cgroups.devices.program import Instruction, compile_rules, decode_program, encode_program
from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.directory import Directory

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack
    from functools import lru_cache
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple
    from kernelproof.impl._syscalls.unwinding import ExitStack, lru_cache

NAME = "kp_devices"


class Attached(NamedTuple):
    """A program that is attached to a cgroup.

    Attributes:
        id: in this kernel; name: what its maker called it; tag: the same for the same instructions.
        instructions: as the kernel keeps them: what it checks itself may be rewritten.
    """

    id: int
    name: str
    tag: bytes
    instructions: tuple[Instruction, ...]


def set_devices(directory: Directory, rules: Sequence[DeviceRule], *, loaded: int | None = None) -> None:
    """Put rules on a cgroup in the place of those that this module put there before.

    On version 2 a cgroup may have programs of others too, and its ancestors may: an access needs the yes of all.

    Args:
        directory: of version 2, or of the devices hierarchy.
        rules: in their order; see `rules`.
        loaded: what `load_rules` gave for them, which stays the caller's; version 1 has no use for it.

    Raises:
        LimitError: a rule that no kernel, or version 1, could keep.
        OSError: EPERM: no right to (CAP_SYS_ADMIN; a parent that refuses, on version 1); EINVAL, EACCES: the verifier
            refuses the program, with its log as a note.
    """
    if directory.version == 1:
        planned = plan_writes(parse_list(directory.read("devices.list")), plan_list(rules))
        return writes.apply(directory, planned)
    with ExitStack() as opened:
        new = loaded
        if new is None:
            new = load_rules(rules)
            opened.callback(os.close, new)
        _replace(directory.fileno(), new, _own_programs(directory, opened))
    return None


def load_rules(rules: Sequence[DeviceRule]) -> int:
    """A descriptor of the program that keeps rules, which the kernel's verifier has seen by then; nothing obeys it yet.

    Raises:
        LimitError, OSError: as set_devices.
    """
    return bpf.load_program(bpf.ProgramType.CGROUP_DEVICE, encode_rules(tuple(rules)), name=NAME)


@lru_cache(maxsize=4)  # the same rules are asked for again and again
def encode_rules(rules: tuple[DeviceRule, ...]) -> bytes:
    """The program that keeps rules, as bpf(2) takes it.

    Raises:
        LimitError: a rule that no kernel could keep.
    """
    return encode_program(compile_rules(rules))


def _own_programs(directory: Directory, opened: ExitStack) -> list[int]:
    found = []
    for number in bpf.query_programs(directory.fileno(), bpf.AttachType.DEVICE):
        fd = bpf.open_program(number)
        opened.callback(os.close, fd)
        if bpf.describe_program(fd).name == NAME:
            found.append(fd)
    return found


def _replace(cgroup: int, new: int, old: list[int]) -> None:
    kind, multi = bpf.AttachType.DEVICE, bpf.AttachFlag.ALLOW_MULTI
    if len(old) == 1:
        try:
            return bpf.attach_program(cgroup, new, kind, multi | bpf.AttachFlag.REPLACE, old[0])
        except OSError as error:
            if error.errno != errno.EINVAL:  # before Linux 5.6
                raise
    bpf.attach_program(cgroup, new, kind, multi)
    for fd in old:
        bpf.detach_program(cgroup, fd, kind)
    return None


def read_programs(directory: Directory, *, effective: bool = False) -> tuple[Attached, ...]:
    """The programs that are attached to a cgroup of version 2; with `effective` those of its ancestors too.

    Raises:
        OSError: EPERM: CAP_SYS_ADMIN is missing.
    """
    found = []
    for number in bpf.query_programs(directory.fileno(), bpf.AttachType.DEVICE, effective=effective):
        fd = bpf.open_program(number)
        try:
            program = bpf.describe_program(fd)
        finally:
            os.close(fd)
        found.append(Attached(program.id, program.name, program.tag, decode_program(program.instructions)))
    return tuple(found)
