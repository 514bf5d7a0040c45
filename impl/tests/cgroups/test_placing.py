"""Cgroups made, entered and removed, and what is undone; folders with a few manners of the kernel stand for cgroups."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import classic
from kernelproof.impl.cgroups import directory as directory_module
from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError, StillBusyError
from kernelproof.impl.cgroups.layout import Hierarchy, Layout


class Kernel:
    """Makes the files of a new folder, keeps the words of subtree_control, removes what is empty; refuses if told to.

    Args:
        root: where hierarchies are: `unified` of version 2, all others of version 1.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.refused: dict[tuple[str, str], int] = {}  # folder and value, or folder and "mkdir" -> errno
        self._mkdir, self._rmdir, self._write = os.mkdir, os.rmdir, Directory.write
        monkeypatch.setattr(directory_module, "filesystem_type", self._filesystem_type)
        monkeypatch.setattr(os, "mkdir", self._make)
        monkeypatch.setattr(os, "rmdir", self._remove)
        monkeypatch.setattr(Directory, "write", lambda found, file, value: self._take(found, file, value))

    def hierarchy(self, name: str, *controllers: str) -> Hierarchy:
        """Mount one."""
        version = 2 if name == "unified" else 1
        self._mkdir(self.root / name)
        self._fill(self.root / name, " ".join(controllers) if version == 2 else None)
        return Hierarchy(version, controllers, "", str(self.root / name), "/", False)

    def tree(self) -> list[str]:
        """All cgroups, those of version 2 with what they give on."""
        found = []
        for path in sorted(each for each in self.root.rglob("*") if each.is_dir()):
            given = path / "cgroup.subtree_control"
            name = str(path.relative_to(self.root))
            found.append(f"{name}: {given.read_text()}" if given.exists() and given.read_text() else name)
        return found

    def _fill(self, path: Path, controllers: str | None) -> None:
        (path / "cgroup.procs").write_text("")
        if controllers is not None:
            (path / "cgroup.controllers").write_text(controllers)
            (path / "cgroup.subtree_control").write_text("")

    def _filesystem_type(self, fd: int) -> int:
        is_unified = os.readlink(f"/proc/self/fd/{fd}").endswith("/unified")
        return directory_module.CGROUP2_MAGIC if is_unified else directory_module.CGROUP1_MAGIC

    def _refuse(self, path: Path, what: str) -> None:
        number = self.refused.get((str(path.relative_to(self.root)), what))
        if number is not None:
            raise OSError(number, os.strerror(number))

    def _make(self, name: str, mode: int, *, dir_fd: int) -> None:
        above = Path(os.readlink(f"/proc/self/fd/{dir_fd}"))
        self._refuse(above / name, "mkdir")
        self._mkdir(above / name, mode)
        given = above / "cgroup.subtree_control"
        self._fill(above / name, given.read_text() if given.exists() else None)

    def _remove(self, name: str, *, dir_fd: int) -> None:
        path = Path(os.path.normpath(os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), name)))
        entries = list(path.iterdir())
        if any(entry.is_dir() for entry in entries) or (path / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for entry in entries:
            entry.unlink()
        self._rmdir(path)

    def _take(self, found: Directory, file: str, value: str) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{found.fileno()}"))
        self._refuse(path, value)
        if file != "cgroup.subtree_control":
            self._write(found, file, value)
            return
        words = (path / file).read_text().split()
        words = [*words, value[1:]] if value[0] == "+" else [word for word in words if word != value[1:]]
        (path / file).write_text(" ".join(words))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Folders that behave a little as cgroups do."""
    return Kernel(tmp_path, monkeypatch)


@pytest.fixture
def count() -> Callable[[], int]:
    """Counts open descriptors."""
    return lambda: len(os.listdir("/dev/fd"))


# Version 2.


def test_cgroup_with_controllers(kernel: Kernel, count: Callable[[], int]) -> None:
    """Controllers are given on in every cgroup above; all that can be had, or those that were named."""
    layout = Layout((kernel.hierarchy("unified", "cpu", "memory"),))
    before = count()
    with Cgroup.create("web/worker", layout) as cgroup:
        assert (cgroup.name, cgroup.version, cgroup.directory.controllers()) == ("/web/worker", 2, ("cpu", "memory"))
        with cgroup.child("one", controllers=["cpu"]) as one:
            assert (one.name, one.directory.controllers()) == ("/web/worker/one", ("cpu",))
        assert cgroup.children() == ("one",)
    assert kernel.tree() == ["unified: cpu memory", "unified/web: cpu memory", "unified/web/worker: cpu",
                             "unified/web/worker/one"]  # fmt: skip
    with Cgroup.create("web/worker", layout, controllers=[]) as again:
        assert again.children() == ("one",)
    assert count() == before


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.EOPNOTSUPP], ids=["EBUSY", "EACCES", "EOPNOTSUPP"])
def test_controllers_that_can_not_be_had(kernel: Kernel, number: int) -> None:
    """What nobody asked for by name is left out, with the others of that cgroup; what was asked for is an error."""
    layout = Layout((kernel.hierarchy("unified", "cpu", "memory"),))
    kernel.refused = {("unified", "+memory"): number}
    with pytest.raises(OSError, match=os.strerror(number)):
        Cgroup.create("web", layout, controllers=["cpu", "memory"])
    assert kernel.tree() == ["unified"]
    Cgroup.create("web", layout).close()
    assert kernel.tree() == ["unified", "unified/web"]


def test_controller_that_is_nowhere(kernel: Kernel, count: Callable[[], int]) -> None:
    """It is named with what there is, and nothing was made."""
    layout = Layout((kernel.hierarchy("unified", "cpu"),))
    before = count()
    with pytest.raises(NoControllerError, match=r"does not have memory itself \(it has cpu\)"):
        Cgroup.create("web/worker", layout, controllers=["cpu", "memory"])
    assert kernel.tree() == ["unified"]
    assert count() == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN], ids=["EACCES", "EAGAIN"])
def test_half_a_cgroup_is_taken_back(kernel: Kernel, count: Callable[[], int], number: int) -> None:
    """If the last step is refused, the cgroups that were made are gone, and their controllers are given back."""
    layout = Layout((kernel.hierarchy("unified", "cpu"),))
    Cgroup.create("there", layout, controllers=[]).close()
    before = count()
    kernel.refused = {("unified/there/a/b", "mkdir"): number}
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        Cgroup.create("there/a/b", layout)
    assert str(error.value.filename).endswith("unified/there/a/b")
    assert kernel.tree() == ["unified", "unified/there"]
    assert count() == before


# Version 1.


def test_cgroup_in_two_hierarchies(kernel: Kernel, count: Callable[[], int]) -> None:
    """It is made, entered and removed in each; with controllers named, in theirs alone."""
    layout = Layout((kernel.hierarchy("cpu", "cpu", "cpuacct"), kernel.hierarchy("pids", "pids")))
    before = count()
    with Cgroup.create("web", layout) as cgroup, Cgroup.create("few", layout, controllers=["pids"]) as few:
        assert kernel.tree() == ["cpu", "cpu/web", "pids", "pids/few", "pids/web"]
        assert few.places[0].hierarchy.controllers == ("pids",)
        cgroup.add(7)
        assert [place.directory.processes() for place in cgroup.places] == [(7,), (7,)]
        with pytest.raises(ValueError, match="process ID -1 is negative"):
            cgroup.add(-1)
        for place in cgroup.places:
            (Path(place.directory.path) / "cgroup.procs").write_text("")
        cgroup.child("below").close()
        cgroup.remove()
        cgroup.remove()
        few.remove()
    assert kernel.tree() == ["cpu", "pids"]
    assert count() == before


def test_hierarchy_that_refuses(kernel: Kernel, count: Callable[[], int]) -> None:
    """What was made in one hierarchy is gone if another one refuses; what was there before stays."""
    layout = Layout((kernel.hierarchy("cpu", "cpu"), kernel.hierarchy("pids", "pids")))
    Cgroup.create("there", layout).close()
    before = count()
    kernel.refused = {("pids/there/web", "mkdir"): errno.EROFS}
    with pytest.raises(OSError, match="Read-only"):
        Cgroup.create("there/web", layout)
    assert kernel.tree() == ["cpu", "cpu/there", "pids", "pids/there"]
    assert count() == before


def test_second_hierarchy_that_lets_nobody_in(kernel: Kernel) -> None:
    """An error of entering says where the process is already."""
    layout = Layout((kernel.hierarchy("cpu", "cpu"), kernel.hierarchy("pids", "pids")))
    kernel.refused = {("pids/web", "7"): errno.EACCES}
    with Cgroup.create("web", layout) as cgroup, pytest.raises(PermissionError) as error:
        cgroup.add(7)
    assert f"in the cgroup already in {kernel.root}/cpu" in error.value.__notes__[-1]


# Removing.


def test_what_is_not_removed(kernel: Kernel) -> None:
    """The root stays, as does a later cgroup of the same name, and one with processes, which are told."""
    layout = Layout((kernel.hierarchy("pids", "pids"),))
    with Cgroup.open("/", layout) as root, pytest.raises(ValueError, match=r"the root of .*pids can't be removed"):
        root.remove()
    with Cgroup.create("web", layout) as cgroup:
        cgroup.remove()
        Cgroup.create("web", layout).close()
        cgroup.remove()
    assert kernel.tree() == ["pids", "pids/web"]
    (kernel.root / "pids/web/cgroup.procs").write_text(f"{os.getpid()}\n")
    with Cgroup.open("web", layout) as cgroup, pytest.raises(StillBusyError, match=str(os.getpid())):
        cgroup.remove(0)
    assert kernel.tree() == ["pids", "pids/web"]


def test_removal_by_the_names_of_2014(kernel: Kernel) -> None:
    """All directories are removed with what is below them; that one is gone already is no error."""
    for name in ("cpu", "pids"):
        kernel.hierarchy(name, name)
    layout = Layout((Hierarchy(1, ("cpu",), "", str(kernel.root / "cpu"), "/", False),
                     Hierarchy(1, ("pids",), "", str(kernel.root / "pids"), "/", False)))  # fmt: skip
    Cgroup.create("box/web/below", layout).close()
    paths = {
        "gone": str(kernel.root / "none/web"),
        "cpu": str(kernel.root / "cpu/box/web"),
        "cpuacct": str(kernel.root / "cpu/box/web"),
        "pids": f"{kernel.root}/pids/box/web/",
    }
    active = classic.ActiveCgroup(paths)
    assert active.paths() == paths
    active.cleanup()
    assert kernel.tree() == ["cpu", "cpu/box", "pids", "pids/box"]
    active.cleanup()
