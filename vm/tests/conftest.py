"""What the harness's own tests share."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that run on the host and make machines, unlike those that run in one."""
    config.addinivalue_line("markers", "makes_machines: runs on the host, and makes machines itself")
