"""More rules of docs/rules/cgroups.md that need no kernel: what is kept, entering, giving on, triggers."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.cgroups import directory as directories
from kernelproof.impl.cgroups import enabling, entering, pressure
from kernelproof.impl.cgroups.applying import Applied, Changes, apply_steps, explain_rounding
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.effective import effective_limit
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.layout import Hierarchy
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.placing import Place
from kernelproof.impl.cgroups.planning import Step
from kernelproof.impl.cgroups.pressure import PressureTrigger
from kernelproof.impl.cgroups.systemd.properties import quota_a_second, round_limits
from kernelproof.impl.cgroups.writes import Write


class Pages:
    """A cgroup whose kernel cuts numbers to whole pages."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def write(self, file: str, value: str) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        self.files[file] = f"{int(value) // page * page}\n"

    def read_or_none(self, file: str) -> str | None:
        return self.files.get(file)


Apply = Callable[[Iterable[Step], Limits, Callable[[Step], Any]], tuple[Applied, ...]]


def _write_and_believe(steps: Iterable[Step], limits: Limits, owner_of: Callable[[Step], Any]) -> tuple[Applied, ...]:
    found = []
    for step in steps:
        owner_of(step).write(step.write.file, step.write.value)
        found.append(Applied(step.write, step.write.value))
    return tuple(found)


@pytest.mark.rule("C3", ours=apply_steps, wrong=_write_and_believe)
def test_what_is_kept_is_told(subject: Apply) -> None:
    """Asked, written and kept stand side by side, with the reason."""
    page = os.sysconf("SC_PAGE_SIZE")
    kernel, limits = Pages(), Limits(memory_max_bytes=page + 1)
    step = Step("", Write("memory.max", str(page + 1), "memory_max_bytes"))
    (applied,) = subject([step], limits, lambda step: kernel)
    assert (applied.asked, applied.write.value, applied.effective) == (page + 1, str(page + 1), f"{page}\n")
    assert applied.why == f"cut to whole pages of {page} bytes"


def test_limits_are_attributes_of_what_was_set() -> None:
    """A number where it is one, text where not, None where nothing was written; other names are none."""
    page = os.sysconf("SC_PAGE_SIZE")
    kernel, limits = Pages(), Limits(memory_max_bytes=page + 1)
    step = Step("", Write("memory.max", str(page + 1), "memory_max_bytes"))
    apply: Any = apply_steps
    changes = apply([step], limits, lambda step: kernel)
    assert (changes.memory_max_bytes, changes.pids_max) == (page, None)
    lists = Changes(
        [Applied(Write("c", "0-1", "cpuset_cpus"), "0-1\n"), Applied(Write("p", "max", "pids_max"), "max\n")]
    )
    assert (lists.cpuset_cpus, lists.pids_max) == ("0-1", -1)
    with pytest.raises(AttributeError):
        changes.nothing  # noqa: B018


@pytest.mark.rule("C3")
@pytest.mark.parametrize("page", [4096, 16_384, 65_536])
def test_rounded_limits_stay(page: int) -> None:
    """What is rounded once is what it is when it is rounded again, whatever the size of a page."""
    asked = Limits(cpu_quota_microseconds=123_456, memory_max_bytes=3 * page + 7, memory_high_bytes=-1)
    once = round_limits(asked, page)
    assert once == Limits(cpu_quota_microseconds=124_000, memory_max_bytes=3 * page, memory_high_bytes=-1)
    assert round_limits(once, page) == once
    assert quota_a_second(asked) == quota_a_second(once) == 1_240_000


def test_reasons_in_words() -> None:
    """Nothing is said where nothing was changed, or where a file has more than was written."""
    write = Write("cpu.weight", "0", "cpu_weight")
    assert [explain_rounding(write, text) for text in (None, "0\n", "a 1\nb 2\n")] == ["", "", ""]
    assert explain_rounding(write, "1\n") == "the kernel keeps 1 in place of 0"
    assert explain_rounding(Write("cpu.max", "max 1", "cpu"), "max 2") == "the kernel has 'max 2'"


class Newborn:
    """A cgroup that refuses a task as long as it is being made."""

    path = "newborn"

    def __init__(self, refusals: int, number: int = errno.EINVAL) -> None:
        self.left = refusals
        self.number = number
        self.written = 0

    def write(self, file: str, value: str) -> None:
        self.written += 1
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))


def _write_once(directory: Newborn, pid: int) -> None:
    directory.write("cgroup.procs", str(pid))


def _write_again(directory: Any, pid: int) -> None:
    entering.write_pid(directory, pid, 60)


@pytest.mark.rule("C10", ours=_write_again, wrong=_write_once, raises=OSError)
def test_a_newborn_is_taken(subject: Callable[[Any, int], None]) -> None:
    """Two refusals are a moment, not an error."""
    cgroup = Newborn(2)
    subject(cgroup, os.getpid())
    assert cgroup.written == 3


@pytest.mark.rule("C10")
def test_what_is_really_refused() -> None:
    """EINVAL that stays is told at the deadline, another error at once, and so is one about the caller itself."""
    with pytest.raises(OSError, match="Invalid") as refused:
        entering.write_pid(Newborn(1 << 30), os.getpid(), 0.02)  # type: ignore[arg-type]
    assert any("longer than a task is being made" in note for note in refused.value.__notes__)
    for pid, number in ((os.getpid(), errno.EBUSY), (0, errno.EINVAL)):
        cgroup = Newborn(1, number)
        with pytest.raises(OSError, match=os.strerror(number)):
            entering.write_pid(cgroup, pid)  # type: ignore[arg-type]
        assert cgroup.written == 1


class Full(Directory):
    """A cgroup that holds a process."""

    def __init__(self) -> None:
        super().__init__(-1, "/full", 2)

    def read(self, file: str) -> str:
        return {"cgroup.subtree_control": "", "cgroup.controllers": "memory pids", "cgroup.procs": "7\n"}[file]

    def write(self, file: str, value: str) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), self.path)


def _enable_as_it_is(directory: Directory, controllers: Iterable[str]) -> None:
    directory.write("cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))


@pytest.mark.rule("C12", ours=enabling.enable, wrong=_enable_as_it_is)
def test_what_to_do_about_processes(subject: Callable[[Directory, Iterable[str]], object]) -> None:
    """The error names them and the way out."""
    with pytest.raises(OSError, match="busy") as refused:
        subject(Full(), ["memory"])
    notes = " ".join(getattr(refused.value, "__notes__", ()))
    assert "1 processes (7)" in notes
    assert "move them into a cgroup below it first" in notes


@pytest.mark.rule("C12")
@pytest.mark.parametrize("version", [1, 2])
def test_where_a_process_can_enter(version: int) -> None:
    """Who is refused by a cgroup that gives controllers on is sent below it; on version 1 that is not the cause."""
    place = Place(Hierarchy(version, (), "", "/cg", "/", False), Full(), "/full")
    with pytest.raises(OSError, match="busy") as refused:
        entering.enter([place], 7)
    first, *others = refused.value.__notes__
    assert first == "moving process 7 into /full"
    assert ["use one below it" in note for note in others] == [True] * (version - 1)


def _open_from_nothing(path: Path) -> PressureTrigger:
    return PressureTrigger(os.open(path, os.O_RDWR), "some", 0)


def _open_as_ours(path: Path) -> PressureTrigger:
    return PressureTrigger.open(path, "memory", stall_microseconds=100_000)


def _pressure(total: int) -> str:
    return f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n"


@pytest.mark.rule("C15", ours=_open_as_ours, wrong=_open_from_nothing)
def test_stalls_from_before_are_not_told(
    subject: Callable[[Path], PressureTrigger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 9000 microseconds 5000 were before: 4000 are since. (A file stands for one of the kernel's.)"""
    path = tmp_path / "memory.pressure"
    path.write_text(_pressure(5000))
    monkeypatch.setattr(pressure, "wait_for_event", lambda fd, events, timeout: True)
    with subject(path) as trigger:
        path.write_text(_pressure(9000))
        assert trigger.wait() == (9000, 4000)


@pytest.mark.parametrize(("window", "notes"), [(1_000_000, 2), (2_000_000, 1)])
def test_windows_that_need_a_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, notes: int) -> None:
    """Where the kernel refuses a window that only some users may have, that is said; no descriptor is left."""

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    path = tmp_path / "memory.pressure"
    path.write_text(_pressure(0))
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="Invalid argument") as refused:
        PressureTrigger.open(path, "memory", stall_microseconds=1, window_microseconds=window)
    assert len(os.listdir("/dev/fd")) == before
    assert len(refused.value.__notes__) == notes
    assert ("CAP_SYS_RESOURCE" in refused.value.__notes__[-1]) is (notes == 2)


def _folder(path: Path, files: dict[str, str]) -> Directory:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return Directory(os.open(path, os.O_RDONLY), str(path), 2)


@pytest.mark.rule("C15")
def test_hidden_files_are_not_there(tmp_path: Path) -> None:
    """A pressure file that is hidden reads as none, as one does that the kernel refuses."""
    with _folder(tmp_path / "box", {}) as directory:
        assert directory.read_or_none("memory.pressure") is None


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=["no such call", "filter"])
def test_call_that_is_forbidden_later_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """openat2 that worked and is refused a moment later is replaced by steps, which follow no link either."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with Directory(os.open(tmp_path, os.O_RDONLY), str(tmp_path), 2) as opened:
        opened.child("a").close()
        monkeypatch.setattr(directories, "openat2", refuse)
        with opened.child("a/b") as below:
            assert os.path.samestat(os.fstat(below.fileno()), (tmp_path / "a/b").stat())
        with pytest.raises(OSError, match=r"."):
            opened.child("link/b")


def test_cgroup_at_descriptor_0() -> None:
    """A program without a standard input may have a cgroup at descriptor 0, and that is not taken for closed."""
    assert Directory(0, "/box", 2).fileno() == 0
    with pytest.raises(ValueError, match="/box is closed"):
        Directory(-1, "/box", 2).fileno()


@pytest.mark.rule("C+7")
def test_the_limit_that_holds(tmp_path: Path) -> None:
    """The smallest one of all above, and whose it is; of CPU time as CPUs; where none is set, none."""
    files: tuple[tuple[str, dict[str, str]], ...] = (
        ("top", {}),
        ("top/mid", {"memory.max": "4096\n", "pids.max": "max\n", "cpu.max": "50000 100000\n"}),
        ("top/mid/low", {"memory.max": "8192\n", "pids.max": "7\n", "cpu.max": "max 100000\n"}),
    )
    chain = [_folder(tmp_path / name, texts) for name, texts in files][::-1]
    found = {kind: effective_limit(tuple(chain), kind) for kind in ("memory", "pids", "cpu", "swap")}
    with pytest.raises(LimitError):
        effective_limit(tuple(chain), "speed")
    for directory in chain:
        directory.close()
    assert found == {
        "memory": (4096, str(tmp_path / "top/mid")),
        "pids": (7, str(tmp_path / "top/mid/low")),
        "cpu": (0.5, str(tmp_path / "top/mid")),
        "swap": (-1, None),
    }
