"""The features document, and newer parts of `process` and `linux`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def features(box: Box) -> dict[str, Any]:
    """What the runtime tells of itself."""
    found: dict[str, Any] = json.loads(box.command("features"))
    return found


def stat_of(box: Box, **process: object) -> list[str]:
    """The fields of /proc/PID/stat after the program's name, from the third on."""
    return box.said("cat", "/proc/self/stat", process=process).rpartition(")")[2].split()
