"""Where QEMU comes from is decided by what is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_qemu import parse_version, plan_qemu, provide_qemu, read_version
from kernelproof.vm.provision_types import Qemu
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
        (read_recorded("qemu-7.2-version.txt"), (7, 2, 22)),
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


def put_program(folder: Path, name: str, text: str) -> Path:
    """A shell script that can be started."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that programs are looked for in; we seem to be root."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return folder


def unused_context(tmp_path: Path, progress: SilentProgress) -> Provisioning:
    """A provisioning whose apt must not be asked."""
    return Provisioning(Cache(tmp_path / "cache"), progress, lambda: pytest.fail("private apt was asked"))


def test_system_s_qemu_is_used(programs: Path, tmp_path: Path, progress: SilentProgress) -> None:
    """A new enough QEMU on the path is taken as it is, and nothing is noted."""
    path = put_program(programs, "qemu-system-x86_64", "echo QEMU emulator version 8.2.1")
    assert provide_qemu(unused_context(tmp_path, progress)) == Qemu(path, (8, 2, 1), (), (), "system")
    assert progress.notes == []


def test_root_installs_it_and_says_so(programs: Path, tmp_path: Path, progress: SilentProgress) -> None:
    """Without one, root's apt-get is asked to install it, and the user is told."""
    qemu = programs / "qemu-system-x86_64"
    put_program(
        programs,
        "apt-get",
        f'echo "$@" >> {tmp_path}/said\n[ "$1" = install ] || exit 0\n'
        f"printf '#!/bin/sh\\necho version 9.9.9\\n' > {qemu}\n/bin/chmod 755 {qemu}",
    )
    assert provide_qemu(unused_context(tmp_path, progress)) == Qemu(qemu, (9, 9, 9), (), (), "installed")
    assert (tmp_path / "said").read_text() == "update\ninstall --yes --no-install-recommends qemu-system-x86\n"
    assert "installing qemu-system-x86 with apt-get" in progress.notes[0]


def test_private_road_is_left_when_installing_fails(
    programs: Path, tmp_path: Path, progress: SilentProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this machine's apt-get can't, it is told why, and QEMU is unpacked into the cache."""
    put_program(programs, "apt-get", "echo 'E: Could not get lock' >&2; exit 100")
    unpacked = Qemu(tmp_path, (10, 0, 0), (), (), "cache")
    monkeypatch.setattr("kernelproof.vm.provision_qemu._unpack", lambda context: unpacked)
    assert provide_qemu(unused_context(tmp_path, progress)) == unpacked
    assert "Could not get lock" in progress.notes[1]


def test_nothing_to_be_done_is_told_with_what_to_install(
    programs: Path, tmp_path: Path, progress: SilentProgress
) -> None:
    """On a host without apt the error says what was found and what is needed."""
    with pytest.raises(ProvisionError, match="find QEMU: qemu-system-x86_64: not found"):
        provide_qemu(unused_context(tmp_path, progress))
    put_program(programs, "qemu-system-x86_64", "echo version 6.0.0")
    with pytest.raises(ProvisionError, match=r"found 6\.0\.0") as caught:
        provide_qemu(unused_context(tmp_path, progress))
    assert "install QEMU 7.2.0 or later" in caught.value.remedy
