"""Bytecode from a guest: kept by content, handed out with the stamp of its source, refused where it is none."""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kernelproof.vm.bytecode import MOST_BYTES, Bytecode
from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ChannelError
from kernelproof.vm.guest.bundle import read_members
from kernelproof.vm.push import pack_project, read_files

TIMED, HASHED, UNCHECKED = (number.to_bytes(4, "little") for number in (0, 3, 1))
CODE = b"marshalled"
GUEST = {"root_digest": "r", "python": "3.13"}


def pyc(flags: bytes = TIMED) -> bytes:
    return b"\xf3\r\r\n" + flags + b"12345678" + CODE


class Guest:
    """Answers `bytecode` with what it is given."""

    def __init__(self, *answers: Mapping[str, object]) -> None:
        self.answers = answers

    def stream(self, message: Mapping[str, object], *, timeout: float) -> Iterator[Mapping[str, object]]:
        assert message == {"kind": "bytecode"}
        yield from self.answers
        yield {"kind": "compiled-all"}


def compiled(source: Path | str, name: str, data: bytes | str) -> dict[str, object]:
    text = data if isinstance(data, str) else b64encode(data).decode()
    return {"kind": "compiled", "source": str(source), "name": name, "data": text}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "project/test_a.py"
    path.parent.mkdir()
    path.write_bytes(b"a = 1\n")
    return path


def project(cache: Cache, source: Path, guest: object = GUEST) -> Bytecode:
    return Bytecode(cache, guest, source.parent)


def learn(cache: Cache, source: Path, *answers: Mapping[str, object], guest: object = GUEST) -> None:
    bytecode = project(cache, source, guest)
    pack_project(read_files([source]), bytecode, [source])
    bytecode.learn(Guest(*answers))


def pushed(cache: Cache, source: Path, guest: object = GUEST, *, chosen: bool = True) -> dict[str, bytes]:
    tests = [source] if chosen else []
    members = read_members(pack_project(read_files([source]), project(cache, source, guest), tests))
    folder = f"{source.parent}/__pycache__/".lstrip("/")
    return {
        os.fsdecode(path).removeprefix(folder): data for path, data in members if os.fsdecode(path).startswith(folder)
    }


def test_second_time(cache: Cache, source: Path) -> None:
    """What a guest made is pushed beside its source the next time, stamped with the source's time and size."""
    assert pushed(cache, source) == {}
    learn(
        cache,
        source,
        compiled(source, "test_a.cpython-313.pyc", pyc(TIMED)),
        compiled(source, "test_a.cpython-313-pytest-9.2.0.pyc", pyc(HASHED)),
    )
    os.utime(source, (2_000, 2_000))
    stamp = (2_000).to_bytes(4, "little") + (6).to_bytes(4, "little")
    assert pushed(cache, source) == {
        "test_a.cpython-313.pyc": b"\xf3\r\r\n" + TIMED + stamp + CODE,
        "test_a.cpython-313-pytest-9.2.0.pyc": pyc(HASHED),
    }


def test_only_of_files_that_are_collected(cache: Cache, source: Path) -> None:
    """Bytecode of a test file that the guest does not collect stays here; that of any other module is pushed."""
    module = source.with_name("helper.py")
    module.write_bytes(b"b = 1\n")
    for path in (source, module):
        learn(cache, path, compiled(path, f"{path.stem}.cpython-313.pyc", pyc()))
    assert pushed(cache, source, chosen=False) == {}
    assert list(pushed(cache, module, chosen=False)) == ["helper.cpython-313.pyc"]


def test_changed_source(cache: Cache, source: Path) -> None:
    """A changed source has none, and the old one has its own again when the change is undone."""
    learn(cache, source, compiled(source, "test_a.cpython-313.pyc", pyc()))
    source.write_bytes(b"a = 2\n")
    assert pushed(cache, source) == {}
    source.write_bytes(b"a = 1\n")
    assert pushed(cache, source) != {}


def test_each_project_and_root_has_its_own(cache: Cache, source: Path, tmp_path: Path) -> None:
    """What was made for one root, or in one project, is not pushed for another."""
    learn(cache, source, compiled(source, "test_a.cpython-313.pyc", pyc()))
    assert pushed(cache, source, {"root_digest": "another", "python": "3.13"}) == {}
    other = Bytecode(cache, GUEST, tmp_path / "elsewhere")
    assert other.find(source, source.read_bytes(), 0) == []


def test_only_what_was_asked_for_is_kept(cache: Cache, source: Path, tmp_path: Path) -> None:
    """What a guest sends for a source that it was not pushed, or that is known, is not kept."""
    learn(cache, source, compiled("/usr/lib/python3/x.py", "x.cpython-313.pyc", pyc()))
    assert not cache.folder("bytecode").joinpath("x").exists()
    assert list(cache.folder("bytecode").iterdir()) == []
    learn(cache, source, compiled(source, "test_a.cpython-313.pyc", pyc()))
    learn(cache, source, compiled(source, "test_a.cpython-313.pyc", pyc() + b"poisoned"))
    assert pushed(cache, source)["test_a.cpython-313.pyc"].endswith(CODE)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("test_a.cpython-313.pyc", pyc(UNCHECKED)),
        ("test_a.cpython-313.pyc", b"short"),
        ("test_a.cpython-313.pyc", "no base64!"),
        ("test_a.cpython-313.pyc", pyc() + bytes(MOST_BYTES)),
        ("test_b.cpython-313.pyc", pyc()),
        ("../test_a.cpython-313.pyc", pyc()),
        ("test_a./../../etc/passwd.pyc", pyc()),
        ("test_a.\x1b[31m.pyc", pyc()),
        ("test_a.so", pyc()),
        ("/test_a.x.pyc", pyc()),
    ],
    ids=["unchecked", "short", "text", "long", "another", "above", "below", "escape", "suffix", "absolute"],
)
def test_what_is_no_bytecode_is_refused(cache: Cache, source: Path, name: str, data: bytes | str) -> None:
    """A guest can't have kept what nothing checks, what is too long, or what lies elsewhere."""
    with pytest.raises(ChannelError, match="bytecode") as caught:
        learn(cache, source, compiled(source, name, data))
    assert "\x1b" not in str(caught.value)
    assert not any(path.is_file() for path in cache.root.rglob("*") if path.name != ".seen")


@pytest.mark.parametrize("damage", [b"", b"x" * 50], ids=["empty", "other"])
def test_damaged_entry(cache: Cache, source: Path, damage: bytes) -> None:
    """A damaged entry is as if there were none, and is made anew."""
    learn(cache, source, compiled(source, "test_a.cpython-313.pyc", pyc()))
    (entry,) = [path for path in cache.root.rglob("*") if path.is_file() and path.name != ".seen"]
    entry.write_bytes(damage)
    assert pushed(cache, source) == {}
    learn(cache, source, compiled(source, "test_a.cpython-313.pyc", pyc()))
    assert pushed(cache, source) != {}


def test_cache_that_can_not_be_written_to(source: Path, tmp_path: Path) -> None:
    """Without a place to keep it nothing is kept, and nothing fails."""
    (tmp_path / "file").touch()
    learn(Cache(tmp_path / "file"), source, compiled(source, "test_a.cpython-313.pyc", pyc()))
    assert pushed(Cache(tmp_path / "file"), source) == {}


def test_what_the_host_made(cache: Cache, source: Path) -> None:
    """Where both have one Python, the host's own bytecode is pushed unless its source has changed since."""
    same = {"root_digest": "r", "python": "{}.{}".format(*sys.version_info)}
    folder, tag = source.parent / "__pycache__", sys.implementation.cache_tag
    folder.mkdir()
    os.utime(source, (7, 7))
    fresh, stale = b"\x07\0\0\0\x06\0\0\0", b"\x08\0\0\0\x06\0\0\0"
    (folder / f"test_a.{tag}.pyc").write_bytes(b"\xf3\r\r\n" + TIMED + fresh + CODE)
    (folder / f"test_a.{tag}-pytest-8.3.pyc").write_bytes(b"\xf3\r\r\n" + TIMED + stale + CODE)
    (folder / f"test_a.{tag}-pytest-9.2.0.pyc").write_bytes(pyc(HASHED))
    (folder / f"test_ab.{tag}.pyc").write_bytes(pyc(HASHED))
    (folder / "test_a.cpython-38.pyc").write_bytes(pyc(HASHED))
    assert sorted(pushed(cache, source, same)) == [f"test_a.{tag}-pytest-9.2.0.pyc", f"test_a.{tag}.pyc"]
    assert pushed(cache, source, {"root_digest": "r", "python": "3.8"}) == {}


def test_bounds(cache: Cache, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many projects those used longest ago make room; a half-written file of a killed run vanishes."""
    monkeypatch.setattr("kernelproof.vm.bytecode.MOST_PROJECTS", 2)
    answer = compiled(source, "test_a.cpython-313.pyc", pyc())
    for number in range(3):
        learn(cache, source, answer, guest={"python": "3.13", "root_digest": str(number)})
        for age, folder in enumerate(
            sorted(cache.folder("bytecode").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        ):
            os.utime(folder / ".seen", (age, age))
    assert len(list(cache.folder("bytecode").iterdir())) == 2
    assert pushed(cache, source, {"python": "3.13", "root_digest": "2"}) != {}
    folder = next(cache.folder("bytecode").iterdir())
    (folder / ".new-old").touch()
    os.utime(folder / ".new-old", (0, 0))
    (folder / ".new-fresh").touch()
    for number in range(3):
        source.write_bytes(b"a = %d\n" % number)
        for guest in ("1", "2"):
            learn(cache, source, answer, guest={"python": "3.13", "root_digest": guest})
    assert not (folder / ".new-old").exists()
    assert (folder / ".new-fresh").exists()
