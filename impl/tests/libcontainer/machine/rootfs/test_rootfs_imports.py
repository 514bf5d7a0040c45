"""Below the container's root no module is loaded from a file: it would be the image's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer.config.records import Mount
from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.process import joining
from kernelproof.impl.libcontainer.rootfs import entering

pytestmark = pytest.mark.machine

PROC = Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev"))
PLACE = "opt/modules"  # on the way that modules are looked for; the host has no such directory
WAYS: dict[str, dict[str, Any]] = {
    "pivot": {"mounts": [PROC]},
    "move": {"mounts": [PROC], "no_pivot_root": True},
    "chroot": {"kinds": ("pid", "uts")},
}


@pytest.fixture(autouse=True)
def planted(container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module and a codec that only the image has, at a place where the interpreter looks."""
    place = Path(container.image, PLACE)
    place.mkdir(parents=True)
    (place / "planted.py").write_text("WORD = 'of the image'\n")
    monkeypatch.setattr(sys, "path", [f"/{PLACE}", *sys.path])


def look() -> list[str]:
    """What comes of loading the module, and of text in an encoding whose codec is not loaded."""
    try:
        import planted  # type: ignore[import-not-found]  # here is where it is to be refused

        found = [planted.WORD]
    except ImportError as error:
        found = [type(error).__name__]
    try:
        found.append(str("ж".encode("koi8-u")))
    except LookupError as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_the_image_is_loaded(container: Any, way: str) -> None:
    """However the root is entered: what is not loaded by then is an error."""
    assert container.run(container.config(**WAYS[way]), look) == ["ModuleNotFoundError", "unknown encoding: koi8-u"]


@pytest.mark.parametrize("way", WAYS)
def test_wrong_ours_would_be_the_images(container: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the refusal the image's module runs as the runtime."""
    monkeypatch.setattr(entering, "refuse_imports", lambda: None)
    assert container.run(container.config(**WAYS[way]), look)[0] == "of the image"


def test_who_joins_mounts_loads_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A further process refuses before its root is the container's; of the other namespaces none matters."""
    done: list[object] = []
    monkeypatch.setattr(joining, "refuse_imports", lambda: done.append("refused"))
    monkeypatch.setattr(joining, "setns", lambda fd, flags: done.append(fd))
    site = Site(**{"namespace-network": 5, "namespace-mount": 6})
    joining.join_all(site, ("network", "mount"))
    assert done == [5, "refused", 6]
