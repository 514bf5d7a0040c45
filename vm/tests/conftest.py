"""What the harness's own tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

MACHINE = Path(__file__).parent / "machine"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that run on the host and make machines, unlike those that run in one."""
    config.addinivalue_line("markers", "makes_machines: runs on the host, and makes machines itself")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests below machine/: all of them make machines, but for those that run in one."""
    for item in items:
        if item.path.is_relative_to(MACHINE) and item.get_closest_marker("machine") is None:
            item.add_marker("makes_machines")
