"""A bundle with busybox, hierarchies of cgroups, and a directory of states, for whole containers in a machine."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer import Runtime
from kernelproof.impl.libcontainer.config.records import Config, IdMapping, Linux, Mount, Namespace, Process, Root
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.process.sealing import interpreter

APPLETS = ("true", "false", "sh", "id", "ls", "cat", "sleep", "readlink", "ps", "kill", "stat", "echo", "touch", "env")
KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
PROC = Mount("/proc", "proc", "proc")
FIRST_ID, MAPPED = 100_000, 65_536
MAPS = (IdMapping(0, FIRST_ID, MAPPED),)

_HELD = pytest.StashKey[int]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hold a machine's copy of the interpreter from its template on: each test's runtime has that one."""
    guest = json.loads(os.environ.get("KERNELPROOF_GUEST", "{}"))
    here = Path(__file__).parent
    if guest.get("time", "none") != "none" and any(item.path.is_relative_to(here) for item in session.items):
        session.stash[_HELD] = interpreter.take()


def pytest_kernelproof_rehearse(session: pytest.Session) -> None:
    """Run a container before machines are forked, by that copy: its code is translated once, not in each of them."""
    if _HELD in session.stash:
        rehearse()


def rehearse() -> int | None:
    """Make a container, enter it, end it; the exit status of what entered it."""
    with tempfile.TemporaryDirectory() as name:
        bundle = fill(Bundle(Path(name)))
        config = bundle.config("sh", "-c", "id; exec sleep 1000")
        with Runtime(bundle.states) as runtime, runtime.create("box", config, bundle=bundle.path) as container:
            container.start()
            with container.exec(["true"]) as process:
                return process.wait(10)


class Bundle:
    """A bundle, and what becomes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rootfs = path / "rootfs"
        self.states = path / "states"

    def config(
        self, *args: str, kinds: Sequence[str] = KINDS, mounts: Sequence[Mount] = (PROC,), **linux: object
    ) -> Config:
        """A configuration with namespaces of some kinds."""
        namespaces = tuple(Namespace(kind) for kind in kinds)
        if "user" in kinds:
            linux = {"uid_mappings": MAPS, "gid_mappings": MAPS, **linux}
        return Config(
            "1.0.2",
            Root("rootfs"),
            Process("/", args, ("PATH=/bin",)),
            mounts=tuple(mounts),
            linux=Linux(namespaces, **linux),  # type: ignore[arg-type]
        )

    def write(self, config: Config) -> None:
        """Writes config.json."""
        (self.path / "config.json").write_text(dump(config, own=True), encoding="utf-8")

    def belongings(self) -> dict[str, object]:
        """What containers could leave behind on the host."""
        return {
            "states": sorted(os.listdir(self.states)) if self.states.exists() else [],
            "mounts": Path("/proc/self/mountinfo").read_text(encoding="utf-8"),
            "cgroups": find_cgroups(),
            "links": sorted(os.listdir("/sys/class/net")),
            "descriptors": sorted(read_link(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")),
            "children": Path("/proc/thread-self/children").read_text(encoding="ascii"),
        }


def find_cgroups() -> list[str]:
    """The cgroups of all hierarchies that are mounted; a hierarchy that is not there yet, or any more, has none."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith(("cgroup ", "cgroup2 ")):
            # os.walk takes the kinds of files from the directory: a hierarchy has hundreds that are none.
            for path, folders, _ in os.walk(before.split()[4]):
                found += [f"{path}/{name}" for name in folders if name.startswith(("box", "ready-"))]
    return sorted(found)


def read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return "the directory itself"


def find_busybox() -> str:
    found = shutil.which("busybox")
    assert found is not None, "the profile `runtimes` has busybox"
    return found


def fill(bundle: Bundle) -> Bundle:
    """Make its root, with busybox in it."""
    for name in ("bin", "proc", "etc", "tmp"):
        (bundle.rootfs / name).mkdir(parents=True)
    shutil.copy(find_busybox(), bundle.rootfs / "bin/busybox")
    for name in APPLETS:
        (bundle.rootfs / "bin" / name).symlink_to("busybox")
    return bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose root holds busybox."""
    made = fill(Bundle(tmp_path))
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o111)  # users of a mapped container pass through
    return made


@pytest.fixture(params=["v2", "v1"])
def cgroups(request: pytest.FixtureRequest, hierarchy: Callable[..., Path]) -> str:
    """Hierarchies of one version."""
    if request.param == "v2":
        hierarchy("v2")
    else:
        for controller in ("cpu", "memory", "pids", "freezer", "devices", "blkio"):
            hierarchy("v1", controller)
    return str(request.param)


@pytest.fixture
def cgroup2(hierarchy: Callable[..., Path]) -> Path:
    """The hierarchy of version 2."""
    return hierarchy("v2")


@pytest.fixture
def nothing_left(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[None]:
    """The host is after the test as it was before."""
    for name in ("cgroups", "cgroup2"):  # what they mount is there before, and looked into after
        if name in request.fixturenames:
            request.getfixturevalue(name)
    before = bundle.belongings()
    yield
    assert bundle.belongings() == before
