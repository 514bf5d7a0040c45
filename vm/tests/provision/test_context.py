"""What is missing is made once; what is there asks nobody."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from kernelproof.vm.apt import Apt, AptSettings
from kernelproof.vm.apt_sources import Mirrors
from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Entry, Provisioning
from kernelproof.vm.provision_progress import SilentProgress


def read_settings() -> AptSettings:
    """Settings of a machine that has no mirror."""
    return AptSettings(Mirrors((), ()), Path("/none"))


def refuse_settings() -> AptSettings:
    """A machine whose apt must not be asked."""
    raise AssertionError("apt was asked")


def provide(cache: Cache, made: list[str], content: bytes = b"x") -> Entry:
    """Provide one entry by a context of its own."""
    with Provisioning(cache, SilentProgress(), read_settings) as context:

        def make(_: Apt) -> str:
            made.append("made")
            return context.build("kind", {"a": 1}, write)

        def write(work: Path) -> None:
            (work / "file").write_bytes(content)

        return context.provide("kind", {"wish": 1}, make)


def test_second_call_asks_no_apt(tmp_path: Path) -> None:
    """What was provided once is found without apt, settings or network."""
    cache, made = Cache(tmp_path), list[str]()
    entry = provide(cache, made)
    with Provisioning(cache, SilentProgress(), refuse_settings) as context:
        again = context.provide("kind", {"wish": 1}, lambda _: pytest.fail("made again"))
    assert again == entry
    assert made == ["made"]


def test_other_wish_is_made(tmp_path: Path) -> None:
    """Another request is another entry, or the same one if it leads to the same record."""
    cache, made = Cache(tmp_path), list[str]()
    entry = provide(cache, made)
    with Provisioning(cache, SilentProgress(), read_settings) as context:
        same = partial(context.build, "kind", {"a": 1}, lambda work: pytest.fail("built again"))
        assert context.provide("kind", {"wish": 2}, lambda _: same()) == entry


def test_damaged_entry_is_made_again(tmp_path: Path) -> None:
    """A flipped byte is noticed, and what was made is whole again."""
    cache, made = Cache(tmp_path), list[str]()
    entry = provide(cache, made)
    (entry.folder / "file").write_bytes(b"y")
    assert (provide(cache, made).folder / "file").read_bytes() == b"x"
    assert made == ["made", "made"]


def test_two_runs_at_once_make_it_once(tmp_path: Path) -> None:
    """The second run waits for the first and finds what that has made."""
    cache, made = Cache(tmp_path), list[str]()
    started, go_on = threading.Event(), threading.Event()
    entries: list[Entry] = []

    def first() -> None:
        with Provisioning(cache, SilentProgress(), read_settings) as context:

            def write(work: Path) -> None:
                started.set()
                assert go_on.wait(60)
                (work / "file").write_bytes(b"x")

            entries.append(context.provide("kind", {"wish": 1}, lambda _: context.build("kind", {"a": 1}, write)))

    class Waiting(SilentProgress):
        def step(self, text: str) -> None:
            steps.append(text)
            go_on.set()

    steps: list[str] = []
    thread = threading.Thread(target=first)
    thread.start()
    assert started.wait(60)
    with Provisioning(cache, Waiting(), read_settings) as context:
        entries.append(context.provide("kind", {"wish": 1}, lambda _: pytest.fail("made twice")))
    thread.join()
    assert entries[0] == entries[1]
    assert steps == ["wait for another run that fetches packages"]
    assert made == []


def test_failure_lets_go_of_the_lock(tmp_path: Path) -> None:
    """After an error the next run does not wait."""
    cache = Cache(tmp_path)

    def fail(_: Apt) -> str:
        raise ProvisionError("a", "b", "c", "d")

    with pytest.raises(ProvisionError), Provisioning(cache, SilentProgress(), read_settings) as context:
        context.provide("kind", {"wish": 1}, fail)
    assert provide(cache, []).folder.is_dir()
