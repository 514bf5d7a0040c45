"""What all tests of this repository share: two markers, and how long the long tests are."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SHORTENED = 100
PROFILE = "any-host"  # of hypothesis


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--long`."""
    parser.getgroup("kernelproof").addoption(
        "--long", action="store_true", help="run tests marked long at full numbers, not at a hundredth of them"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", "makes_machines: runs on the host, and makes machines itself")
    config.addinivalue_line("markers", "long: takes the fixture full_number, and all of it only under --long")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is in a folder `machine` and does not run in one makes some: so unit tests can be told apart."""
    for item in items:
        if "machine" in item.path.parts and item.get_closest_marker("machine") is None:
            item.add_marker("makes_machines")


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """Before property tests are loaded, take from them what judges how fast the host is: a busy one is no failure."""
    if b"\nfrom hypothesis import " in module_path.read_bytes():
        from hypothesis import HealthCheck, settings  # 0.3 s, which a run without such tests does not pay

        if settings.get_current_profile_name() != PROFILE:
            slow = [HealthCheck.too_slow]
            settings.register_profile(PROFILE, settings.default, deadline=None, suppress_health_check=slow)
            settings.load_profile(PROFILE)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What need not be done at a run's end is left out; 0.4 s of CPU a run.

    Where no test uses hypothesis, its plugin would load it at the end, to say nothing. And what is collected now lives
    as long as the run: no use in looking through it again whenever unreachable objects are searched for.
    """
    plugin = session.config.pluginmanager.get_plugin("hypothesispytest")
    if plugin is not None and "hypothesis" not in sys.modules:
        session.config.pluginmanager.unregister(plugin)
    gc.freeze()


@pytest.fixture
def full_number(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """`full_number(20_000)`: that many under `--long`, else a hundredth of it, at least one."""
    is_long = bool(pytestconfig.getoption("--long"))
    return lambda number: number if is_long else max(1, number // SHORTENED)


@pytest.fixture
def race_seconds(pytestconfig: pytest.Config) -> float:
    """For how long a race is to be lost: ten seconds under `--long`, else two. What is known to be wrong has ten."""
    return 10.0 if pytestconfig.getoption("--long") else 2.0
