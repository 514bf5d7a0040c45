"""Hooks that are scripts, and the file that they write."""

from __future__ import annotations

import json
from typing import Any

from kernelproof.conformance.libcontainer.box import Box
from kernelproof.conformance.libcontainer.configs import config

LOG = "/data/log"  # in a container


def sh(text: str, **members: object) -> dict[str, object]:
    """A hook that is a script, behind the reading of its standard input: not every runtime bears one that is left."""
    return sh_of_state(f"while read -r _; do :; done; {text}", **members)


def sh_of_state(text: str, **members: object) -> dict[str, object]:
    """A hook that is a script which reads its standard input itself; what it says to standard output goes nowhere."""
    return {"path": "/bin/sh", "args": ["sh", "-c", text], **members}


def log_for(box: Box, kind: str = "createRuntime") -> str:
    """The file that hooks write, as a hook of this kind finds it: in the container, or in its root on the host."""
    return LOG if kind == "startContainer" else str(box.rootfs / LOG[1:])


def lines_of(box: Box) -> list[str]:
    """What hooks wrote."""
    path = box.rootfs / LOG[1:]
    return path.read_text().splitlines() if path.exists() else []


def hooked(*args: str, **hooks: object) -> dict[str, object]:
    """A configuration with hooks."""
    return config(*args, hooks=hooks)


def state_of(box: Box, kind: str) -> dict[str, Any]:
    """What a hook of a kind read from its standard input."""
    hooks = {kind: [sh_of_state(f"cat >> {log_for(box, kind)}")]}
    box.begin(config("sleep", "1000", hooks=hooks, annotations={"com.example.a": "b"}))
    box.delete(force=True)
    found: dict[str, Any] = json.loads("\n".join(lines_of(box)))
    return found
