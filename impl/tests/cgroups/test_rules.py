"""Rules of docs/rules/cgroups.md that need no kernel: each beside a small variant that does what others did."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl._syscalls import bpf
from kernelproof.impl.cgroups import freezing
from kernelproof.impl.cgroups.controllers import memory, pids
from kernelproof.impl.cgroups.conversions import shares_to_weight, swap_of
from kernelproof.impl.cgroups.devices import attaching
from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import BelowUsageError, LimitError
from kernelproof.impl.cgroups.formats import parse_list
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v2
from kernelproof.impl.cgroups.writes import Reader, Write

FILES = {"pids.max": "max\n", "cpu.weight": "100\n", "memory.max": "max\n", "memory.current": "8192\n"}
Planner = Callable[[Limits, Reader], list[Write]]


@pytest.mark.rule("C1", ours=shares_to_weight, wrong=lambda shares: 1 + (shares - 2) * 9999 // 262142)
def test_a_default_stays_a_default(subject: Callable[[int], int]) -> None:
    """1024 shares, the least and the most are 100, 1 and 10000."""
    assert [subject(shares) for shares in (2, 1024, 262144)] == [1, 100, 10000]


def _write_it_all(limits: Limits, read: Reader) -> list[Write]:
    return [Write("cpu.weight", str(limits.cpu_weight), "cpu_weight")]


@pytest.mark.rule("C2", ours=plan_v2, wrong=_write_it_all, raises=pytest.fail.Exception)
def test_out_of_range_is_named(subject: Planner) -> None:
    """The error says limit, value and range."""
    with pytest.raises(LimitError, match="cpu_weight 10001: a weight is 1 to 10000"):
        subject(Limits(cpu_weight=10001), FILES.get)


@pytest.mark.rule(
    "C4", ours=swap_of, wrong=lambda both, part: both - part, raises=(AssertionError, pytest.fail.Exception)
)
def test_swap_is_what_is_left(subject: Callable[[int, int], int]) -> None:
    """No limit of the sum is no limit of swap, and a sum below its part is an error."""
    assert subject(-1, 4096) == -1
    with pytest.raises(LimitError):
        subject(1024, 4096)


def _plan_if_true(limits: Limits, read: Reader) -> list[Write]:
    return pids.plan(limits, read) if limits.pids_max else []


@pytest.mark.rule("C5", ours=pids.plan, wrong=_plan_if_true)
def test_zero_is_a_limit(subject: Planner) -> None:
    """0 is written, None is not."""
    assert [write.value for write in subject(Limits(pids_max=0), FILES.get)] == ["0"]
    assert subject(Limits(), FILES.get) == []


@pytest.mark.rule("C6", ours=plan_v2, wrong=memory.plan_v2, raises=pytest.fail.Exception)
def test_below_usage_is_refused(subject: Planner) -> None:
    """A limit of 4096 with 8192 in use is an error with both numbers."""
    with pytest.raises(BelowUsageError, match="4096 is below the usage 8192"):
        subject(Limits(memory_max_bytes=4096), FILES.get)


def _ours_kills(read: Reader) -> int | None:
    found = memory.read_v2(read)
    return None if found is None else found.oom_kills


def _attempts(read: Reader) -> int:
    return int(dict(line.split() for line in (read("memory.events") or "").splitlines())["oom"])


@pytest.mark.rule("C7", ours=_ours_kills, wrong=_attempts)
def test_kills_are_counted(subject: Callable[[Reader], int]) -> None:
    """Where the limit of the parent killed, the child has no attempt and one kill."""
    files = {"memory.stat": "anon 0\n", "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n"}
    assert subject(files.get) == 1


def _freeze_and_hope(directory: Directory, timeout_seconds: float) -> None:
    directory.write("cgroup.freeze", "1")
    raise TimeoutError(errno.ETIMEDOUT, "timed out")


@pytest.mark.rule("C8", ours=freezing.freeze, wrong=_freeze_and_hope)
def test_what_does_not_freeze_is_thawed(subject: Callable[[Directory, float], None], tmp_path: Path) -> None:
    """After the deadline the cgroup is thawed again. (A folder stands for one that never gets frozen.)"""
    (tmp_path / "cgroup.freeze").write_text("0")
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    with Directory(os.open(tmp_path, os.O_RDONLY), str(tmp_path), 2) as directory, pytest.raises(TimeoutError):
        subject(directory, 0.01)
    assert (tmp_path / "cgroup.freeze").read_text() == "0"


def _by_beginning(root: Directory, name: str) -> Directory:
    path = os.path.abspath(os.path.join(root.path, name))
    if not path.startswith(root.path):
        raise LimitError("name", name, "outside")
    return Directory(os.open(path, os.O_RDONLY), path, 2)


@pytest.mark.rule("C11", ours=Directory.child, wrong=_by_beginning, raises=pytest.fail.Exception)
def test_a_name_stays_below(subject: Callable[[Directory, str], Directory], tmp_path: Path) -> None:
    """`../xELSE` begins as `x` does, and is not below it; neither is what a link leads to."""
    for name in ("x", "xELSE"):
        (tmp_path / name).mkdir()
    (tmp_path / "x" / "link").symlink_to(tmp_path / "xELSE")
    with Directory(os.open(tmp_path / "x", os.O_RDONLY), str(tmp_path / "x"), 2) as root:
        with pytest.raises(LimitError):
            subject(root, "../xELSE")
        with pytest.raises(OSError, match="symbolic links"):
            subject(root, "link")


class Kernel:
    """Attachments of one cgroup, and how few there ever were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attached = {7}
        self.fewest = 1
        for name in ("load_program", "attach_program", "detach_program", "query_programs", "open_program"):
            monkeypatch.setattr(bpf, name, getattr(self, name))
        monkeypatch.setattr(bpf, "describe_program", lambda fd: bpf.Loaded(15, fd, b"", attaching.NAME, b""))
        monkeypatch.setattr(os, "close", lambda fd: None)

    def load_program(self, kind: int, code: bytes, name: str) -> int:
        return 8

    def attach_program(self, cgroup: int, new: int, kind: int, flags: int = 0, old: int = 0) -> None:
        if flags & bpf.AttachFlag.REPLACE:
            raise OSError(errno.EINVAL, "an old kernel")
        self.attached.add(new)

    def detach_program(self, cgroup: int, fd: int, kind: int) -> None:
        self.attached.discard(fd)
        self.fewest = min(self.fewest, len(self.attached))

    def query_programs(self, cgroup: int, kind: int) -> tuple[int, ...]:
        return (7,)

    def open_program(self, number: int) -> int:
        return number


def _detach_first(directory: Directory, rules: list[DeviceRule]) -> None:
    for fd in bpf.query_programs(directory.fileno(), bpf.AttachType.DEVICE):
        bpf.detach_program(directory.fileno(), fd, bpf.AttachType.DEVICE)
    bpf.attach_program(directory.fileno(), bpf.load_program(15, b"", name=attaching.NAME), bpf.AttachType.DEVICE)


@pytest.mark.rule("C13", ours=attaching.set_devices, wrong=_detach_first)
def test_no_moment_without_rules(
    subject: Callable[[Directory, list[DeviceRule]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel can't replace in one step, the new program is there before the old one goes."""
    with monkeypatch.context() as patched:
        kernel = Kernel(patched)
        subject(Directory(1000, "box", 2), [DeviceRule.parse("a")])
    assert (kernel.attached, kernel.fewest) == ({8}, 1)


def _query_with_what_is_used(target_fd: int, kind: int) -> tuple[int, ...]:
    bpf._bpf(bpf.Command.PROG_QUERY, bytearray(28), 28)
    return ()


@pytest.mark.rule("C14", ours=bpf.query_programs, wrong=_query_with_what_is_used)
def test_the_whole_union_is_handed_over(
    subject: Callable[[int, int], tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that writes at offset 56 stays within what it was given."""
    sizes = []

    def record(command: int, attributes: bytearray, size: int) -> int:
        sizes.append((len(attributes), size))
        attributes[24:28] = bytes(4)  # none are attached
        return 0

    monkeypatch.setattr(bpf, "_bpf", record)
    assert subject(3, bpf.AttachType.DEVICE) == ()
    assert all(size == length >= 64 for length, size in sizes)


def _by_mask(text: str) -> tuple[int, ...]:
    mask = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            mask |= 1 << number % 1024
    return tuple(number for number in range(1024) if mask >> number & 1)


@pytest.mark.rule("C16", ours=parse_list, wrong=_by_mask)
def test_cpus_beyond_a_mask(subject: Callable[[str], tuple[int, ...]]) -> None:
    """CPU 1024 is CPU 1024."""
    assert subject("1022-1025") == (1022, 1023, 1024, 1025)
