"""Which sessions are kept, for how long, and what a damaged or full cache does to them: with bases that are none."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kernelproof.vm import session_store
from kernelproof.vm.cache import Cache
from kernelproof.vm.machine import Machine
from kernelproof.vm.session_store import KIND, MOST, SECONDS, provide_session
from kernelproof.vm.snapshot import SessionTemplate, Snapshot

ANSWER = {"kind": "collected", "nodeids": ["test_a.py::test_it"], "reports": [], "compiled": 3, "set_up": False}


class Session:
    """A number; what is done when it is closed is done as with one that is more."""

    last_act: Callable[[], None] | None = None

    def __init__(self, number: int) -> None:
        self.number = number


class Base:
    """Derives numbers: the first session is 1, the second 2; what is restored is what was written."""

    def __init__(self) -> None:
        self.spec = SimpleNamespace(discs=())
        self.derived = 0

        self.shared = 0

    def derive(self, prepare: Callable[[Machine], Mapping[str, object]], shift: int) -> tuple[object, object]:
        self.derived += 1
        return Session(self.derived), prepare(cast("Machine", None))

    def share(self) -> Base:
        self.shared += 1
        return self

    def close(self) -> None:
        self.shared -= 1

    def write_changes(self, session: Session, pages: int, index: int, state: int) -> None:
        os.write(pages, str(session.number).encode())

    def restore(self, pages: int, index: int, state: int, shift: int) -> Session:
        return Session(int(os.read(pages, 10)))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(session_store, "time", made)
    return made


@pytest.fixture
def base() -> Base:
    return Base()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def provide(
    base: Base, cache: Cache, name: str = "a", answer: Mapping[str, object] = ANSWER
) -> tuple[object, Mapping[str, object]]:
    """The session of that name, closed: its number, and the answer."""
    digest = name.encode().hex().zfill(64)
    session, answered = provide_session(cast("Snapshot", base), digest, cache, lambda machine: answer, 0)
    if session.last_act is not None:
        session.last_act()
    assert base.shared == 0
    return cast("Session", session).number, answered


def entries(cache: Cache) -> list[Path]:
    """The folders of all that is kept."""
    return sorted(cache.folder(KIND).glob("[0-9a-f]" * 64))


def test_kept(base: Base, cache: Cache, clock: Clock) -> None:
    """The second time there is nothing to make; the answer is the same, but for bytecode that is known by now."""
    assert provide(base, cache) == (1, ANSWER)
    assert provide(base, cache) == (1, {**ANSWER, "compiled": 0})
    assert provide(base, cache, "b") == (2, ANSWER)
    assert base.derived == 2


def test_too_old(base: Base, cache: Cache, clock: Clock) -> None:
    """After an hour it is made anew, also when the clock was set back; the hour counts from then on."""
    provide(base, cache)
    clock.now += SECONDS
    assert provide(base, cache)[0] == 1
    clock.now += 1
    assert provide(base, cache)[0] == 2
    clock.now -= 10
    assert provide(base, cache)[0] == 3
    assert provide(base, cache)[0] == 3


def test_room(base: Base, cache: Cache) -> None:
    """The last few are kept, and none that is too old to be used."""
    for number in range(MOST + 3):
        provide(base, cache, f"{number:02}")
        os.utime(entries(cache)[-1] / "record.json", (time.time() - 1000 + number,) * 2)  # the last by name
    assert len(entries(cache)) == MOST
    assert provide(base, cache, "10")[0] == MOST + 3
    for entry in entries(cache):
        os.utime(entry / "record.json", (1_000_000_000,) * 2)
    provide(base, cache, "new")
    assert len(entries(cache)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"set_up": True},
        {"set_up": None},
        {"reports": [{"nodeid": "test_b.py", "text": "no"}]},
        {"kind": "session-over"},
    ],
    ids=["fixture", "unknown", "not collected", "over"],
)
def test_not_kept(base: Base, cache: Cache, change: Mapping[str, object]) -> None:
    """What may be another the next time is made the next time."""
    for number in (1, 2):
        assert provide(base, cache, answer={**ANSWER, **change})[0] == number


def test_not_kept_with_discs(base: Base, cache: Cache) -> None:
    """A machine with discs is made each time."""
    base.spec.discs = ("vda",)
    for number in (1, 2):
        assert provide(base, cache)[0] == number


def damage_pages(entry: Path) -> None:
    """A file that is not what was sealed."""
    (entry / "pages").write_text("99")


def damage_record(entry: Path) -> None:
    """A record that is none, under seals that fit."""
    record = entry / "record.json"
    record.write_text(json.dumps([]) + " " * (record.stat().st_size - 2))
    manifest = json.loads((entry / ".manifest").read_text())
    manifest["record.json"][1] = None
    (entry / ".manifest").write_text(json.dumps(manifest))


@pytest.mark.parametrize("damage", [damage_pages, damage_record])
def test_damaged(base: Base, cache: Cache, damage: Callable[[Path], None]) -> None:
    """A damaged one is made anew and kept again."""
    provide(base, cache)
    damage(entries(cache)[0])
    assert provide(base, cache)[0] == 2
    assert provide(base, cache)[0] == 2


def test_restoring_fails(base: Base, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that can't be restored is made anew."""
    provide(base, cache)

    def refuse(*arguments: object) -> SessionTemplate:
        raise ValueError("the pages that are kept do not fit their index")

    monkeypatch.setattr(base, "restore", refuse)
    assert provide(base, cache)[0] == 2


def test_cache_that_is_full(base: Base, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be kept is used all the same, and nothing of it is left."""

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(base, "write_changes", refuse)
    assert provide(base, cache) == (1, ANSWER)
    assert [path.name for path in cache.folder(KIND).iterdir()] == [".keeping.lock"]
