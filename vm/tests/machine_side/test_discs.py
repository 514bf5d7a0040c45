"""What discs are made of, and what QEMU is told of them, by value."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernelproof.vm.disc_files import DiscFiles, open_contents, save_contents
from kernelproof.vm.discs import Disc, DiscFile, disc_arguments, plan_files, read_disc
from kernelproof.vm.guest.write_log import Extent
from kernelproof.vm.memory import MIB
from kernelproof.vm.qemu import SYMBOLIC, MachineSpec, Role, qemu_command, template_record

SCRATCH, SWAP = Disc("scratch", 256, loses=True), Disc("swap", 128)


def test_files() -> None:
    """A disc is one file; one that loses its unflushed writes has a log and a second disc beside it."""
    assert plan_files([SWAP]) == (DiscFile("swap", 128, "swap"),)
    assert plan_files([SCRATCH, SWAP]) == (
        DiscFile("scratch", 256, "scratch"),
        DiscFile("scratch-log", 2048, None),
        DiscFile("scratch-after", 256, "scratch"),
        DiscFile("swap", 128, "swap"),
    )


DEVICE = "discard=off,write-zeroes=off,request-merging=off,werror=report,rerror=report"


def test_arguments() -> None:
    """Writes go through a layer that logs them; the guest sees disc, log and second disc by their names."""
    assert shlex.join(disc_arguments([SCRATCH, SWAP], ["/s", "/l", "/a", "/w"])) == (
        "-blockdev driver=file,filename=/s,locking=off,node-name=scratch-content "
        "-blockdev driver=file,filename=/l,locking=off,node-name=scratch-log-written "
        "-blockdev driver=blklogwrites,node-name=scratch,file=scratch-content,log=scratch-log-written "
        f"-device virtio-blk-pci,drive=scratch,serial=scratch,{DEVICE} "
        "-blockdev driver=file,filename=/l,locking=off,node-name=scratch-log,read-only=on "
        f"-device virtio-blk-pci,drive=scratch-log,serial=scratch-log,{DEVICE} "
        "-blockdev driver=file,filename=/a,locking=off,node-name=scratch-after "
        f"-device virtio-blk-pci,drive=scratch-after,serial=scratch-after,{DEVICE} "
        "-blockdev driver=file,filename=/w,locking=off,node-name=swap "
        f"-device virtio-blk-pci,drive=swap,serial=swap,{DEVICE}"
    )
    with pytest.raises(ValueError, match="zip"):
        disc_arguments([SCRATCH], ["/only"])


@pytest.mark.parametrize(
    "row",
    [{"name": "a"}, {"name": 1, "mib": 1}, {"name": "a", "mib": 0}, {"name": "a", "mib": 1, "size": 1}],
    ids=str,
)
def test_rows_that_are_no_disc(row: dict[str, Any]) -> None:
    """A row that lacks a member, or has one of another type or one too many, is refused."""
    with pytest.raises(ValueError, match="disc"):
        read_disc(row)


def spec(*discs: Disc) -> MachineSpec:
    digests = ("r", "m", "s", "a")
    return MachineSpec((10, 0, 13), (), "pc-q35-10.0", "tcg", "qemu64", 2, 1024, "virtual", (), "k", digests, "", discs)


def test_record() -> None:
    """Discs are part of a template's key, and of the same command line in each of its roles."""
    record = template_record(spec(SCRATCH))
    assert record != template_record(spec())
    assert record != template_record(spec(replace(SCRATCH, mib=128)))
    for role in Role:
        text = shlex.join(qemu_command(spec(SCRATCH), role, replace(SYMBOLIC, discs=("/s", "/l", "/a"))))
        assert shlex.join(disc_arguments([SCRATCH], ["/s", "/l", "/a"])) in text


def test_contents(tmp_path: Path) -> None:
    """Each machine's files begin with what the template's discs held, and nothing of them reaches the template."""
    small = (Disc("scratch", 1, loses=True), Disc("swap", 1))
    first = DiscFiles(small)
    os.pwrite(first._files["scratch"], b"kept", 512)
    save_contents(contents := first.contents(), tmp_path)
    first.close()
    for descriptor in contents.values():
        os.close(descriptor)
    saved = open_contents(small, tmp_path)
    second = DiscFiles(small, saved)
    assert [os.pread(second._files[name], 4, 512) for name in ("scratch", "scratch-after")] == [b"kept"] * 2
    assert os.fstat(second._files["scratch-log"]).st_size == 8 * MIB
    os.pwrite(second._files["scratch"], b"lost", 512)
    assert os.pread(saved["scratch"], 4, 512) == b"kept"
    assert second.extents() == {"scratch": Extent(0, 512)}
    second.close()
    for descriptor in saved.values():
        os.close(descriptor)


def test_files_are_closed() -> None:
    """Files that nobody closed are closed when they are forgotten."""
    before = set(os.listdir("/proc/self/fd"))
    files = DiscFiles([SCRATCH])
    assert len(set(os.listdir("/proc/self/fd"))) == len(before) + 3
    del files
    assert set(os.listdir("/proc/self/fd")) == before
