"""Boxes: the project's own runtime first; then the same test with each peer, whose answers stand beside its own.

The bundles are made, and the helper of the project's own runtime is started, when the machine's template has collected:
every test finds them in its clone.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from kernelproof.conformance.libcontainer.acting import Box, Library, Peer, make_rootfs
from kernelproof.impl._syscalls.prctl import prctl
from kernelproof.impl.libcontainer import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = ("runc", "crun")
CGROUPS = Path("/sys/fs/cgroup")
_PR_SET_CHILD_SUBREAPER = 36


class Prepared(NamedTuple):
    """What a clone finds: the folder of the bundles, and the project's own runtime with a helper that waits."""

    folder: Path
    runtime: Runtime


_PREPARED = pytest.StashKey[Prepared]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepares, in a machine alone."""
    if "KERNELPROOF_GUEST" not in os.environ or not any(_is_ours(item) for item in session.items):
        return
    folder = Path(tempfile.mkdtemp(prefix="bundles-"))
    folder.chmod(0o755)
    for name in ("impl", *PEERS):
        make_rootfs(folder / name / "rootfs")
    runtime = Runtime(folder / "impl/states", keep=1)
    runtime.warm()
    session.stash[_PREPARED] = Prepared(folder, runtime)


def _is_ours(item: pytest.Item) -> bool:
    return item.path.is_relative_to(Path(__file__).parent)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Calls the test with the project's own box, and with one of each peer, in one machine."""
    marker = pyfuncitem.get_closest_marker("peers")
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    if marker is None or not {"box", "seen"} <= arguments.keys():
        return None
    box, seen = arguments["box"], arguments["seen"]
    try:
        pyfuncitem.obj(**arguments)
    finally:
        for name in marker.args:
            with seen.beside(name):
                pyfuncitem.obj(**{**arguments, "box": Peer(box.bundle.parent / name, name)})
    return True


@pytest.fixture
def box(request: pytest.FixtureRequest, hierarchy: Callable[..., Path]) -> Box:
    """The project's own runtime, on a machine with version 2 of cgroups where runtimes look for it."""
    hierarchy("v2", at=CGROUPS)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)  # peers' containers are this process's to wait for
    prepared = request.session.stash[_PREPARED]
    return Library(prepared.folder / "impl", prepared.runtime)
