"""A network namespace of a test's own, in the thread that runs it; and kernels that are played."""

from __future__ import annotations

import gc
import os
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from errno import EPERM
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare


def reason_against_namespaces() -> str:
    """Try to make a network namespace on a thread that ends, and return why that cannot be had, or ""."""
    reasons: list[str] = []

    def probe() -> None:
        try:
            unshare(CloneFlag.NEWNET)
        except OSError as error:
            reasons.append(f"no network namespace of one's own here: {error.strerror}")

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    return reasons[0] if reasons else ""


@pytest.fixture(scope="session")
def _namespaces() -> str:
    return reason_against_namespaces()


@pytest.fixture
def in_namespace(_namespaces: str) -> Callable[[Callable[[], object]], None]:
    """Run a function on a new thread in a new network namespace, and raise what it raises."""
    if _namespaces:
        pytest.skip(_namespaces)

    def run(work: Callable[[], object]) -> None:
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                unshare(CloneFlag.NEWNET)
                work()
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    return run


@pytest.fixture
def namespace(_namespaces: str, tmp_path: object) -> object:
    """A descriptor of a new network namespace that nobody is in; a probed reason where there can be none."""
    if _namespaces:
        pytest.skip(_namespaces)
    made: list[int] = []

    def make() -> None:
        unshare(CloneFlag.NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, EPERM
    yield made[0]
    os.close(made[0])


@pytest.fixture
def descriptors() -> Callable[[], list[str]]:
    """List what is open; what earlier tests left to the collector of garbage is closed first."""
    gc.collect()
    return lambda: os.listdir("/proc/self/fd")


ONLY = tomllib.loads(Path(__file__).resolve().parents[3].joinpath("fixtures", "netlink", "only.toml").read_text())


def flattened(row: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield paths and values, those of linkinfo and of addresses each for itself."""
    for key, value in row.items():
        if isinstance(value, dict) and key in {"linkinfo", "info_data", "info_slave_data"}:
            yield from flattened(value, f"{path}{key}.")
        elif key != "addr_info":
            yield f"{path}{key}", value


def _check_shown(name: str, ours: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """Compare what we show with what ip(8) showed: the same rows, and each key that both print has the same value."""
    ignored = {key for row in ONLY["only"] if row["list"] == name for key in row["keys"]}
    clocks = {key for row in ONLY["clock"] if row["list"] == name for key in row["keys"]}
    assert len(ours) == len(other)
    for mine, its in zip(map(dict, map(flattened, ours)), map(dict, map(flattened, other)), strict=True):
        where = f"{name} {its.get('ifname') or its.get('dst') or its.get('local') or its.get('priority')}"
        one_only = {path for path in mine.keys() ^ its.keys() if path.rpartition(".")[2] not in ignored}
        assert (where, one_only) == (where, set())
        for path in mine.keys() & its.keys():
            if path.rpartition(".")[2] in clocks:
                assert 0 <= mine[path] - its[path] <= 60 or mine[path] == its[path], (where, path)
            else:
                assert (where, path, mine[path]) == (where, path, its[path])


@pytest.fixture(scope="session")
def check_shown() -> Callable[[str, list[dict[str, Any]], list[dict[str, Any]]], None]:
    """Compare what we show with what ip(8) shows."""
    return _check_shown
