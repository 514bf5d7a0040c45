"""`kernelproof setup`: which kernels are made ready, with machines that are none."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from kernelproof.cli import main, setup
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel_select import read_rows
from kernelproof.vm.tests.provision.images import make_kernel


class FakeTemplate:
    """Stands for the real one: remembers what was asked for."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012 (emptied by the fixture)
    error: ProvisionError | None = None
    refused = ""

    def __init__(self, kernel: str, *, profile: str, **_: object) -> None:
        self.asked.append((kernel, profile))
        self.kernel = kernel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass

    def clone(self) -> Self:
        if self.kernel == self.refused:
            raise ProvisionError("find kernel", self.kernel, "gone", "choose another")
        if self.error is not None:
            raise self.error
        return self

    def close(self) -> None:
        pass

    @property
    def facts(self) -> dict[str, dict[str, object]]:
        release, package = f"{self.kernel}.9", "linux-image"
        kernel: dict[str, object] = {"name": self.kernel, "release": release, "package": package, "build": "1"}
        return {"kernel": kernel, "machine": {"accelerator": "tcg"}}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeTemplate]:
    """setup with machines that are none."""
    FakeTemplate.asked = []
    FakeTemplate.error = None
    FakeTemplate.refused = ""
    monkeypatch.setattr(setup, "Template", FakeTemplate)
    monkeypatch.setenv("KERNELPROOF_CACHE", str(tmp_path))
    return FakeTemplate


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], [("6.12", "plain")]),
        (["oldest", "6.1"], [("5.10", "plain"), ("6.1", "plain")]),
        (["6.1", "--profile", "plain"], [("6.1", "plain")]),
        (["6.1", "--profile", "disk", "--profile", "systemd"], [("6.1", "disk"), ("6.1", "systemd")]),
    ],
)
def test_setup_makes_what_is_named(words: list[str], asked: list[tuple[str, str]], fake: type[FakeTemplate]) -> None:
    """Each named kernel is fetched and booted once, the default one if none is named."""
    assert main.main(["setup", "-q", *words]) == 0
    assert fake.asked == asked


def test_setup_prints_what_there_is_now(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output holds one row a kernel."""
    assert main.main(["setup", "-q", "--json", "6.1"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "6.1",
            "profile": "plain",
            "release": "6.1.9",
            "package": "linux-image",
            "build": "1",
            "accelerator": "tcg",
        }
    ]


def test_setup_that_only_fetches(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """With `--fetch-only` nothing boots: the row is what it would be, as it is made of the parts alone."""
    fake.refused = "6.1"  # by a clone
    assert main.main(["setup", "-q", "--json", "--fetch-only", "6.1"]) == 0
    assert [row["release"] for row in json.loads(capsys.readouterr().out)] == ["6.1.9"]


def test_setup_of_unknown_kernel(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that is not known is refused before anything is fetched, with what there is."""
    assert main.main(["setup", "2.6"]) == 1
    assert "5.10, 6.1, 6.12" in capsys.readouterr().err
    assert fake.asked == []


def test_setup_that_fails(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """What could not be had is told with its remedy, and no table is printed."""
    fake.error = ProvisionError("fetch kernel", "linux-image", "404", "wait for the mirror")
    assert main.main(["setup", "-q"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "fetch kernel: linux-image: 404\n  remedy: wait for the mirror" in output.err


def test_setup_all(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """`--all` sets up every kernel of the table; a kernel that is gone is told and left out."""
    fake.refused = "6.1"
    assert main.main(["setup", "--all", "--json"]) == 0
    assert [kernel for kernel, _ in fake.asked] == [row.series for row in read_rows().rows]
    output = capsys.readouterr()
    assert "6.1" not in [row["name"] for row in json.loads(output.out)]
    assert "note: kernel 6.1 left out: find kernel: 6.1: gone" in output.err


def test_setup_all_without_any(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """Where no kernel could be had it is a failure."""
    fake.error = ProvisionError("fetch package index", "trixie", "no network", "connect")
    assert main.main(["setup", "-q", "all"]) == 1
    assert "no network" in capsys.readouterr().err


def test_setup_of_an_own_kernel(fake: type[FakeTemplate], tmp_path: Path) -> None:
    """An image is set up alone, or behind the kernels that are named."""
    image = tmp_path / "bzImage"
    image.write_bytes(make_kernel())
    assert main.main(["setup", "-q", "--kernel-image", str(image)]) == 0
    assert main.main(["setup", "-q", "6.12", "--kernel-image", str(image)]) == 0
    names = [kernel for kernel, _ in fake.asked]
    assert names == ["image-9.1.7-own", "6.12", "image-9.1.7-own"]


def test_setup_refresh_forgets_choices(fake: type[FakeTemplate], tmp_path: Path) -> None:
    """`--refresh` lets packages be chosen anew; without it the choice stands."""
    choice = tmp_path / "v1/choices/kernel-x"
    choice.parent.mkdir(parents=True)
    choice.touch()
    assert main.main(["setup", "-q"]) == 0
    assert choice.exists()
    assert main.main(["setup", "-q", "--refresh"]) == 0
    assert not choice.exists()
