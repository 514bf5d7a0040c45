"""Namespaces of a container: new, inherited, joined; user ID maps and clocks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof.conformance.libcontainer.acting import config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def links_of(box: Box, kind: str, wanted: list[dict[str, object]], **linux: object) -> tuple[str, str]:
    """The namespace of a created container's process, and that of this one."""
    box.create(config("true", linux={"namespaces": wanted, **linux}))
    try:
        return os.readlink(f"/proc/{box.pid()}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}")
    finally:
        box.delete(force=True)
