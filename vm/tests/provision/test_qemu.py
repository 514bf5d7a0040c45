"""Where QEMU comes from is decided by what is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_qemu import parse_version, plan_qemu, read_version
from kernelproof.vm.tests.provision.recorded import read_recorded


@pytest.mark.parametrize(
    ("found", "is_root", "has_apt", "plan"),
    [
        ((10, 0, 13), True, True, "system"),
        ((7, 2, 0), False, False, "system"),
        ((7, 1, 9), True, True, "cache"),  # the user's own choice is not replaced
        ((7, 1, 9), False, False, "give-up"),
        (None, True, True, "install"),
        (None, False, True, "cache"),
        (None, True, False, "give-up"),
        (None, False, False, "give-up"),
    ],
)
def test_decision(found: tuple[int, int, int] | None, is_root: bool, has_apt: bool, plan: str) -> None:
    """The system's when new enough, else installed by root, else unpacked into the cache."""
    assert plan_qemu(found, is_root=is_root, has_apt=has_apt) == plan


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (read_recorded("qemu-10.0-version.txt"), (10, 0, 13)),
        ("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)\n", (7, 2, 17)),
        ("QEMU emulator version 9.1.50 (v9.1.0-1-g1234)\n", (9, 1, 50)),
    ],
)
def test_version(text: str, version: tuple[int, int, int]) -> None:
    """Distribution builds and development versions say their version alike."""
    assert parse_version(text) == version


def test_no_version_is_told() -> None:
    """Other words are an error."""
    with pytest.raises(ValueError, match="no version of QEMU"):
        parse_version("command not found")


def test_program_that_is_no_qemu_is_told(tmp_path: Path) -> None:
    """A program that can't be started or says no version is named."""
    with pytest.raises(ProvisionError, match=r"ask QEMU's version: .*none"):
        read_version(tmp_path / "none")
    program = tmp_path / "true"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    with pytest.raises(ProvisionError, match="no version of QEMU: 'hello"):
        read_version(program)


def test_words_and_environment_reach_the_program(tmp_path: Path) -> None:
    """An unpacked QEMU is asked with the words and variables that it is started with."""
    program = tmp_path / "qemu"
    program.write_text('#!/bin/sh\n[ "$1 $2 $X" = "-L /data --version" ] && exit\necho "version 8.$#.0 $X $*"\n')
    program.chmod(0o755)
    assert read_version(program, "-L", "/data", environment=(("X", "x"),)) == (8, 3, 0)
    assert subprocess.run([program], capture_output=True, check=True).stdout.startswith(b"version 8.0.0")
