"""Boxes: the project's own runtime first; then the same test with each peer, whose answers stand beside its own.

The bundles are made, and the helper of the project's own runtime is started, when the machine's template has collected:
every test finds them in its clone.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kernelproof.conformance.libcontainer.box import REFUSED, Box, Refused
from kernelproof.conformance.libcontainer.bundles import make_rootfs
from kernelproof.conformance.libcontainer.configs import rehearsed
from kernelproof.conformance.libcontainer.library_box import Library
from kernelproof.conformance.libcontainer.observing import CGROUPS
from kernelproof.conformance.libcontainer.peer_box import Peer
from kernelproof.impl._syscalls.prctl import prctl
from kernelproof.impl.libcontainer import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEERS = ("runc", "crun")
_PR_SET_CHILD_SUBREAPER = 36


class Prepared(NamedTuple):
    """What a clone finds: the folder of the bundles, and the project's own runtime with a helper that waits."""

    folder: Path
    runtime: Runtime


_PREPARED = pytest.StashKey[Prepared]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare, in a machine alone: each test without one has namespaces of its own, and prepares for itself."""
    guest = json.loads(os.environ.get("KERNELPROOF_GUEST", "{}"))
    if guest.get("time", "none") != "none" and any(_is_ours(item) for item in session.items):
        session.stash[_PREPARED] = prepare(Path(tempfile.mkdtemp(prefix="bundles-")))
        session.stash[_PREPARED].runtime.warm()


def prepare(folder: Path) -> Prepared:
    """Make a bundle for each runtime."""
    folder.chmod(0o755)
    for name in ("impl", *PEERS):
        make_rootfs(folder / name / "rootfs")
    return Prepared(folder, Runtime(folder / "impl/states", keep=1))


def pytest_kernelproof_rehearse(session: pytest.Session) -> None:
    """Make containers as the tests do, before machines are forked."""
    if _PREPARED in session.stash:
        rehearse()


def rehearse() -> None:
    """Run a container to its end; in another run a process besides, look at it, and end it.

    Without cgroups: a controller that was used in version 2 is not for version 1 what it was.
    """
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as name:
        folder, runtime = prepare(Path(name))
        with runtime:
            box = Library(folder / "impl", runtime)
            box.run(rehearsed("sh", "-c", "cat /proc/self/status /proc/mounts; id; ls -l /dev; hostname"))
            box.create(rehearsed("sleep", "1000"))
            box.start()
            box.execute(["true"])
            box.state()
            box.delete_all()


def _is_ours(item: pytest.Item) -> bool:
    return item.path.is_relative_to(Path(__file__).parent)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Call the test with the project's own box, and with one of each peer, in one machine."""
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    if not {"box", "seen"} <= arguments.keys():
        return None
    box, seen = arguments["box"], arguments["seen"]
    try:
        pyfuncitem.obj(**arguments)
    finally:
        for name in seen.wanted_peers:
            with seen.beside(name):
                peer = Peer(box.bundle.parent / name, name)
                try:
                    pyfuncitem.obj(**{**arguments, "box": peer})
                except Refused:
                    seen(REFUSED)  # where it was to do something; the value that a deviation is matched with
                    raise
    return True


@pytest.fixture
def cgroups(hierarchy: Callable[..., Path]) -> None:
    """Version 2 of cgroups, where runtimes look for it."""
    hierarchy("v2", at=CGROUPS)


@pytest.fixture
def box(request: pytest.FixtureRequest, cgroups: None, tmp_path: Path) -> Iterator[Box]:
    """The project's own runtime."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)  # peers' containers are this process's to wait for
    if (prepared := request.session.stash.get(_PREPARED, None)) is not None:
        yield Library(prepared.folder / "impl", prepared.runtime)  # all of it ends with the clone
        return
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(0o755)  # users of a mapped container pass through
    folder, runtime = prepare(tmp_path)
    boxes: list[Box] = [Library(folder / "impl", runtime), *(Peer(folder / name, name) for name in PEERS)]
    yield boxes[0]
    for one in boxes:
        one.delete_all()
