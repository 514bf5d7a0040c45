"""`kernelproof doctor`: what is missing, and what to do about it; of this machine and of a kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernelproof.cli import doctor, main
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel_options import read_wanted
from kernelproof.vm.tests.provision.images import make_kernel

FACTS = doctor.Facts(
    system="Linux",
    processor="x86_64",
    is_root=False,
    qemu=(10, 0, 2),
    apt=True,
    apt_problem=None,
    cache=Path("/cache"),
    cache_writable=True,
    cache_free_bytes=50_000_000_000,
    memory_bytes=8 << 30,
    memory_needed_bytes=2 << 30,
    kvm="absent",
    distribution="Debian",
    tried=True,
    forks="",
)
PROBLEM = ProvisionError("read", "/etc/apt", "no sources", "add one")


def states(**changes: Any) -> dict[str, str]:
    return {check.check: check.state for check in doctor.judge(FACTS._replace(**changes))}


def remedies(**changes: Any) -> list[str]:
    return [check.remedy for check in doctor.judge(FACTS._replace(**changes)) if check.state == "missing"]


def test_healthy_machine() -> None:
    """Where all is there, nothing is missing."""
    fine = dict.fromkeys(("host", "qemu", "packages", "cache", "memory", "forks"), "ok")
    assert states() == fine | {"kvm": "note"}


@pytest.mark.parametrize(
    ("changes", "check", "state"),
    [
        ({"processor": "aarch64"}, "host", "missing"),
        ({"system": "Darwin"}, "host", "missing"),
        ({"qemu": None, "is_root": True}, "qemu", "note"),
        ({"qemu": None}, "qemu", "note"),
        ({"qemu": (5, 2, 0)}, "qemu", "note"),
        ({"qemu": None, "apt": False}, "qemu", "missing"),
        ({"qemu": PROBLEM}, "qemu", "missing"),
        ({"apt_problem": PROBLEM}, "packages", "missing"),
        ({"cache_writable": False}, "cache", "missing"),
        ({"cache_free_bytes": doctor.CACHE_BYTES - 1}, "cache", "missing"),
        ({"memory_bytes": (2 << 30) - 1}, "memory", "missing"),
        ({"kvm": "refused"}, "kvm", "note"),
        ({"distribution": "Ubuntu", "tried": False}, "packages", "note"),
        ({"forks": "ptrace(2): Operation not permitted"}, "forks", "note"),
    ],
)
def test_one_thing_missing(changes: dict[str, Any], check: str, state: str) -> None:
    """Each lack shows in its own row and no other, and what is missing has a remedy."""
    assert states(**changes) == {**states(), check: state}
    assert all(remedies(**changes))


def test_doctor_reads_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """It looks without network and without a machine, and its status says whether something is missing."""
    status = main.main(["doctor", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["check"] for row in rows] == ["host", "qemu", "packages", "cache", "memory", "kvm", "forks"]
    assert status == int(any(row["state"] == "missing" for row in rows))


@pytest.mark.parametrize(("made", "mode", "expected"), [(False, 0, "absent"), (True, 0o600, "usable")])
def test_kvm_device(made: bool, mode: int, expected: str, tmp_path: Path) -> None:
    """The device is looked for and tried for access, nothing more."""
    if made:
        (tmp_path / "kvm").touch(mode)
    assert doctor.read_kvm(tmp_path / "kvm") == expected


def test_doctor_of_an_own_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option that is missing comes with the line to set; only what is needed makes the status 1."""
    image = tmp_path / "vmlinuz"
    image.write_bytes(make_kernel())
    assert main.main(["doctor", "--kernel-image", str(image)]) == 0
    assert "not known" in capsys.readouterr().out
    config = "".join(f"CONFIG_{row.option}=y\n" for row in read_wanted() if row.option != "PVH")
    (tmp_path / "config-9.1.7-own").write_text(config)
    assert main.main(["doctor", "--kernel-image", str(image)]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["STATE", "CHECK"],
        ["ok", "image"],
        ["note", "modules"],
        ["ok", "configuration"],
        ["note", "CONFIG_PVH"],
    ]
    (tmp_path / "config-9.1.7-own").write_text(config.replace("CONFIG_TMPFS=y", ""))
    assert main.main(["doctor", "--kernel-image", str(image), "--json"]) == 1
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["CONFIG_TMPFS"]["state"] == "missing"
    assert rows["CONFIG_TMPFS"]["set"] == "CONFIG_TMPFS=y"
    assert rows["CONFIG_NET"]["state"] == "ok"


def test_forks() -> None:
    """A program that can't be stopped tells why; what is no program does too."""
    assert "not a program" in doctor.read_forks(__file__)
