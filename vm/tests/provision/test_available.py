"""Of all kernels those that have vanished from their suites are left out, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.vm import available
from kernelproof.vm.available import find_available
from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provider import QemuProvider
from kernelproof.vm.provision_progress import SilentProgress


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked for; 5.10 and 6.1 have vanished."""
    names: list[str] = []

    def provide(context: object, tools: object, table: object, series: str) -> None:
        names.append(series)
        if series in ("5.10", "6.1"):
            raise ProvisionError("find kernel", series, f"no suite has {series}", "choose another one")

    monkeypatch.setattr(available, "provide_tools", lambda context, suites: None)
    monkeypatch.setattr(available, "provide_kernel", provide)
    return names


def test_vanished_rows(asked: list[str], tmp_path: Path) -> None:
    """Each row is looked for; what is not there is named with its reason, and the order stays."""
    found = find_available(("5.10", "6.1", "6.12", "7.3"), Cache(tmp_path), SilentProgress())
    assert asked == ["5.10", "6.1", "6.12", "7.3"]
    assert found.kernels == ("6.12", "7.3")
    assert found.left_out == (("5.10", "no suite has 5.10"), ("6.1", "no suite has 6.1"))


def test_nothing_left(asked: list[str], tmp_path: Path) -> None:
    """Where no row can be had that is an error, and not a run of nothing."""
    with pytest.raises(ProvisionError, match=r"5\.10: no suite has 5\.10; 6\.1: no suite has 6\.1"):
        find_available(("5.10", "6.1"), Cache(tmp_path), SilentProgress())


@pytest.mark.parametrize(("text", "looked_for"), [("all", True), ("6.12, all", True), ("6.12,5.10", False)])
def test_only_for_all(
    text: str, looked_for: bool, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names a kernel means it: only of `all` something is left out."""
    monkeypatch.setenv("KERNELPROOF_CACHE", str(tmp_path))
    provider = QemuProvider()
    chosen = provider.select(text)
    assert bool(asked) is looked_for
    assert ("5.10" in chosen) is not looked_for
    assert ("5.10" in dict(provider.left_out)) is looked_for
