"""An image's root, and a process in new namespaces that does operations on it and tells what it sees afterwards."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.libcontainer.config.records import Config, Linux, Mount, Namespace, Process, Root
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs.planning import plan_rootfs

KINDS = {
    "mount": CloneFlag.NEWNS, "pid": CloneFlag.NEWPID, "ipc": CloneFlag.NEWIPC, "uts": CloneFlag.NEWUTS,
    "network": CloneFlag.NEWNET, "cgroup": CloneFlag.NEWCGROUP, "user": CloneFlag.NEWUSER,
}  # fmt: skip
FIRST_ID = 100_000


class Refusal(NamedTuple):
    """The operation that failed, and its error."""

    operation: str
    kind: str
    errno: int
    text: str


class Host(NamedTuple):
    """Facts of the host, for planning."""

    hierarchies: tuple[object, ...] = ()
    is_rootless: bool = False


class Container:
    """What a test uses: an image at `image`, beside it `host` with a sentinel that must never change."""

    def __init__(self, area: Path) -> None:
        self.image = area / "image"
        self.host = area / "host"
        self.sentinel = self.host / "sentinel"

    def config(
        self,
        mounts: Sequence[Mount] = (),
        *,
        kinds: Sequence[str] = ("mount", "pid", "ipc", "uts"),
        linux: dict[str, object] | None = None,
        readonly: bool = False,
        cwd: str = "/",
        terminal: bool = False,
        **more: object,
    ) -> Config:
        """A configuration of this image."""
        spaces = tuple(Namespace(kind) for kind in kinds)
        return Config(
            "1.2.0",
            root=Root(str(self.image), readonly),
            process=Process(cwd, ("true",), terminal=terminal),
            mounts=tuple(mounts),
            linux=Linux(**{"namespaces": spaces, **(linux or {})}),  # type: ignore[arg-type]
            **more,  # type: ignore[arg-type]
        )

    def plan(self, config: Config) -> Sequence[Operation]:
        """What is planned for a configuration."""
        return plan_rootfs(config, Host())  # type: ignore[arg-type]

    def perform(self, plan: Sequence[Operation], kinds: Sequence[str], look: Callable[[], object]) -> object:
        """Do a plan, and return what `look` gives inside."""
        return perform(plan, kinds, look)

    def run(
        self,
        config: Config,
        look: Callable[[], object] = lambda: None,
        *,
        host: Host | None = None,
        bundle: str = "/",
        outside: Callable[[int], object] = lambda pid: None,
        before: Callable[[Operation], None] = lambda operation: None,
    ) -> object:
        """Do what is planned for a configuration, and return what `look` gives inside; `outside` looks meanwhile.

        Returns:
            What `look` returned, through JSON; or the Refusal.
        """
        plan = plan_rootfs(config, host or Host(), bundle)  # type: ignore[arg-type]
        kinds = [each.type for each in config.linux.namespaces]
        return perform(plan, kinds, look, outside=outside, before=before)


def perform(
    plan: Sequence[Operation],
    kinds: Sequence[str],
    look: Callable[[], object],
    *,
    outside: Callable[[int], object] = lambda pid: None,
    before: Callable[[Operation], None] = lambda operation: None,
) -> object:
    """Do a plan: the host's part here, the others in a process of its own in new namespaces."""
    site = Site()
    try:
        for each in plan:
            if each.stage == "host":
                try:
                    each.do(site)
                except OSError as error:
                    return refusal(each, error)
        return _in_child(site, [each for each in plan if each.stage != "host"], kinds, look, outside, before)
    finally:
        site.close()


def refusal(operation: Operation, error: BaseException) -> Refusal:
    """What is told of an error."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    number = error.errno if isinstance(error, OSError) else 0
    return Refusal(type(operation).__name__, type(error).__name__, number or 0, f"{error}; {notes}")


def _in_child(
    site: Site,
    plan: Sequence[Operation],
    kinds: Sequence[str],
    look: Callable[[], object],
    outside: Callable[[int], object],
    before: Callable[[Operation], None],
) -> object:
    told, tell = os.pipe()
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(told)
            os.close(go)
            _be_child(site, plan, kinds, look, before, tell, wait)
            status = 0
        finally:
            if status:
                os.write(tell, json.dumps(["broken", traceback.format_exc()]).encode())
            os._exit(status)
    os.close(tell)
    os.close(wait)
    try:
        with os.fdopen(told, "rb", buffering=0) as file:
            if "user" in kinds:
                assert file.read(1) == b"u"
                _write_maps(pid)
                os.write(go, b"m")
            text = b""
            while not text.endswith(b"\n"):
                part = file.read(1 << 16)
                if not part:
                    break
                text += part
            kind, *value = json.loads(text)
            if kind == "seen":
                inner = value[1] if value[1] else pid
                outside(inner)
    finally:
        os.close(go)
        os.waitpid(pid, 0)
    if kind == "broken":
        raise AssertionError(value[0])
    return Refusal(*value) if kind == "refused" else value[0]


def _write_maps(pid: int) -> None:
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {FIRST_ID} 65536\n")


def _be_child(
    site: Site,
    plan: Sequence[Operation],
    kinds: Sequence[str],
    look: Callable[[], object],
    before: Callable[[Operation], None],
    tell: int,
    wait: int,
) -> None:
    flags = CloneFlag(0)
    for kind in kinds:
        flags |= KINDS[kind]
    if "user" in kinds:
        unshare(CloneFlag.NEWUSER)
        os.write(tell, b"u")
        os.read(wait, 1)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        flags &= ~CloneFlag.NEWUSER
    unshare(flags)
    if "pid" in kinds:
        ready, inner_told = os.pipe()
        inner = os.fork()
        if inner:
            os.close(inner_told)
            with os.fdopen(ready, "rb") as file:
                text = file.read()
            value = json.loads(text)
            value += [inner] if value[0] == "seen" else []
            os.write(tell, json.dumps(value).encode() + b"\n")
            os.read(wait, 1)
            os.kill(inner, signal.SIGKILL)
            os.waitpid(inner, 0)
            return
        os.close(ready)
        value = ["broken", ""]
        try:
            value = _do(site, plan, look, before)
        finally:
            value = ["broken", traceback.format_exc()] if value == ["broken", ""] else value
            os.write(inner_told, json.dumps(value).encode())
            os.close(inner_told)
            signal.pause()
    value = _do(site, plan, look, before)
    value += [0] if value[0] == "seen" else []
    os.write(tell, json.dumps(value).encode() + b"\n")
    os.read(wait, 1)


def _do(
    site: Site, plan: Sequence[Operation], look: Callable[[], object], before: Callable[[Operation], None]
) -> list[object]:
    json.dumps({"a": [1.0, None]})  # whatever it loads late, it loads now
    for each in plan:
        try:
            before(each)
            each.do(site)
        except (OSError, LookupError, ValueError) as error:
            return ["refused", *refusal(each, error)]
    return ["seen", look()]


@pytest.fixture
def container() -> Iterator[Container]:
    """An image with the usual directories on a private tmpfs, which others than root can reach too."""
    area = Path(tempfile.mkdtemp(prefix="area-", dir="/var/tmp"))
    mount.force_mount("area", area, "tmpfs", "mode=755,private")
    made = Container(area)
    for name in ("proc", "sys", "dev", "etc", "tmp", "run", "bin"):
        (made.image / name).mkdir(parents=True)
    (made.image / "etc/hostname").write_text("image")
    made.host.mkdir()
    made.sentinel.write_text("of the host")
    before = snapshot(made.host)
    mounts_before = [each.mount_point for each in mount.MountTable.read()]
    yield made
    assert snapshot(made.host) == before
    assert [each.mount_point for each in mount.MountTable.read()] == mounts_before
    mount.unmount_recursive(area, lazy=True)
    area.rmdir()


def snapshot(path: Path) -> list[tuple[str, int, int, int, bytes]]:
    """All that is at a place of the host, with mode, owner, and content."""
    found = []
    for each in sorted([path, *path.rglob("*")]):
        status = each.lstat()
        content = each.read_bytes() if each.is_file() and not each.is_symlink() else b""
        found.append((str(each), status.st_mode, status.st_uid, status.st_rdev, content))
    return found
