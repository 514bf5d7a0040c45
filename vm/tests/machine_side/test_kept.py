"""Kept machines as data: listed, found, refused. What is entered is tested with machines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.vm import kept
from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError, VmError
from kernelproof.vm.kept import KIND, find_kept, list_kept, open_kept


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Two kept machines and what can't be read."""
    cache = Cache(tmp_path)
    for number, digest in enumerate(("a" * 64, "b" * 64)):
        record = {
            "node": f"test_it.py::test_{digest[0]}",
            "directory": "/p",
            "kept_at": 1e9 + number,
            "facts": {"kernel": {"release": "6.12.1"}},
            **{"spec": {}, "executable": "/surely/not/there", "environment": []},
        }
        with cache.locked(KIND, digest), cache.building(KIND, digest, digests=False) as folder:
            (folder / "record.json").write_text(json.dumps(record))
            (folder / "state").write_text("some")
    (cache.path(KIND, "c" * 64)).mkdir()
    (cache.path(KIND, "c" * 64) / "record.json").write_text("{}")
    return cache


def test_list(cache: Cache) -> None:
    """The latest comes first; what another version wrote is not in the list."""
    assert [(each.name, each.node, each.kernel) for each in list_kept(cache)] == [
        ("b" * 10, "test_it.py::test_b", "6.12.1"),
        ("a" * 10, "test_it.py::test_a", "6.12.1"),
    ]
    assert list_kept(Cache(cache.root / "none")) == []


@pytest.mark.parametrize(("name", "found"), [("a" * 10, "a"), ("test_a", "a"), ("test_", "b")])
def test_find(name: str, found: str, cache: Cache) -> None:
    """A machine is found by its name, or by a part of its test's node id: the latest then."""
    assert find_kept(cache, name).name == found * 10


@pytest.mark.parametrize("name", ["", "other"])
def test_not_found(name: str, cache: Cache) -> None:
    """Another name is refused, and those that are there are told."""
    with pytest.raises(VmError, match=r"no such machine was kept\n.*bbbbbbbbbb, aaaaaaaaaa"):
        find_kept(cache, name)


def test_qemu_that_is_gone(cache: Cache) -> None:
    """A machine whose QEMU was removed is refused with that reason."""
    with pytest.raises(VmError, match="/surely/not/there is gone"):
        open_kept(cache, find_kept(cache, "test_a"))


def test_damaged(cache: Cache) -> None:
    """A machine whose files are not whole is refused."""
    found = find_kept(cache, "test_a")
    (found.folder / "state").write_text("longer than it was")
    with pytest.raises(VmError, match="its files are damaged"):
        open_kept(cache, found)


def test_full_disc(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc without room for a machine's memory is told before anything is written."""

    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(5 << 20))
    with pytest.raises(ProvisionError, match=r"10 MiB may be needed, 5 MiB are free\n  remedy: .* --drop"):
        kept._check_space(cache, 10 << 20)
