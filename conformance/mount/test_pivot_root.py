"""pivot_root(2): what it refuses, and whom it moves."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls.mount import UnmountFlag, pivot_root, umount2
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import InOthersSkin, Refusal
    from kernelproof.conformance.seen import Seen

InNamespace = "Callable[[Callable[[], Any]], Any]"


@pytest.fixture
def in_namespace(in_child: InChild) -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a child with a mount namespace of its own, in which all is private."""

    def run(function: Callable[[], Any]) -> Any:
        def enter() -> Any:
            unshare(CloneFlag.NEWNS)
            mount.make_rprivate("/")
            return function()

        return in_child(enter)

    return run


@pytest.fixture
def new_root(tree: Path) -> Path:
    """A tmpfs with the directories "old" and "proc", on a private mount."""
    mount.mount("new root", tree / "a", "tmpfs", "private")
    for name in ("old", "proc"):
        (tree / "a" / name).mkdir()
    return tree / "a"


@behaviour("mount.pivot-root.new-root-not-mount-einval", subject="impl")
def test_new_root_is_no_mount(
    tree: Path, new_root: Path, in_namespace: Callable[..., Any], refusal: Refusal, seen: Seen
) -> None:
    """A plain directory on another mount than the root can't be the new root."""
    (new_root / "plain/old").mkdir(parents=True)
    plain = new_root / "plain"
    answers = in_namespace(
        lambda: [refusal(pivot_root, plain, plain / "old"), refusal(mount.change_root, plain, "put_old")]
    )
    assert seen(answers) == ["EINVAL", "EINVAL"]


@behaviour("mount.pivot-root.on-root-mount-ebusy", subject="impl")
def test_root_itself(in_namespace: Callable[..., Any], refusal: Refusal, seen: Seen) -> None:
    """The root can't be the new root."""
    assert seen(in_namespace(lambda: refusal(pivot_root, "/", "/"))) == "EBUSY"


@behaviour("mount.pivot-root.put-old-on-root-mount-ebusy", subject="impl")
def test_old_root_on_the_root(new_root: Path, in_namespace: Callable[..., Any], refusal: Refusal, seen: Seen) -> None:
    """put_old can't lie on the current root mount."""
    old = Path(tempfile.mkdtemp(prefix="old-root-", dir="/"))  # the directory of the test may be on another mount
    try:
        assert mount.mount_id(old, unique=False) == mount.mount_id("/", unique=False)
        assert seen(in_namespace(lambda: refusal(pivot_root, new_root, old))) == "EBUSY"
    finally:
        old.rmdir()


@behaviour("mount.pivot-root.put-old-outside-einval", subject="impl")
def test_old_root_outside(
    tree: Path, new_root: Path, in_namespace: Callable[..., Any], refusal: Refusal, seen: Seen
) -> None:
    """put_old must be at the new root or below it."""
    assert seen(in_namespace(lambda: refusal(pivot_root, new_root, tree / "b"))) == "EINVAL"


@behaviour("mount.pivot-root.file-enotdir", subject="impl")
def test_old_root_is_a_file(new_root: Path, in_namespace: Callable[..., Any], refusal: Refusal, seen: Seen) -> None:
    """put_old can't be a file."""
    (new_root / "file").touch()
    assert seen(in_namespace(lambda: refusal(pivot_root, new_root, new_root / "file"))) == "ENOTDIR"


@behaviour("mount.pivot-root.shared-parent-einval", subject="impl")
def test_shared_parent(
    tree: Path, new_root: Path, in_namespace: Callable[..., Any], refusal: Refusal, seen: Seen
) -> None:
    """The mount that the new root is on can't be shared."""

    def work() -> list[str]:
        mount.make_shared(tree)
        answers = [refusal(mount.change_root, new_root, "dot"), refusal(pivot_root, new_root, new_root / "old")]
        mount.make_private(tree)
        return [*answers, refusal(pivot_root, new_root, new_root / "old")]

    assert seen(in_namespace(work)) == ["EINVAL", "EINVAL", "no error"]


@behaviour("mount.pivot-root.shared-put-old-einval", subject="impl")
def test_shared_old_root(new_root: Path, in_namespace: Callable[..., Any], refusal: Refusal, seen: Seen) -> None:
    """put_old can't be a shared mount."""

    def work() -> list[str]:
        mount.mount("old", new_root / "old", "tmpfs", "shared")
        answers = [refusal(pivot_root, new_root, new_root / "old")]
        mount.make_private(new_root / "old")
        return [*answers, refusal(pivot_root, new_root, new_root / "old")]

    assert seen(in_namespace(work)) == ["EINVAL", "no error"]


@behaviour("mount.pivot-root.chroot-root-einval", subject="impl")
def test_after_a_chroot(
    tree: Path, new_root: Path, in_namespace: Callable[..., Any], refusal: Refusal, seen: Seen
) -> None:
    """A root that is no mount point can't be exchanged."""

    def work() -> str:
        os.chroot(tree)
        os.chdir("/")
        (tree / "b").exists()
        return refusal(pivot_root, "/a", "/a/old")

    def work_in_a_directory() -> str:
        os.chroot(tree.parent)
        os.chdir("/")
        inside = f"/{tree.name}/a"
        return refusal(pivot_root, inside, f"{inside}/old")

    assert seen([in_namespace(work_in_a_directory), in_namespace(work)]) == ["EINVAL", "no error"]


@behaviour("mount.pivot-root.rootfs-einval", subject="impl")
def test_initial_ramfs(tmp_path: Path, in_child: InChild, refusal: Refusal, seen: Seen) -> None:
    """The initial ramfs can't be exchanged; the library then moves the new root onto it."""
    new = tmp_path / "new"
    (new / "old").mkdir(parents=True)

    def work() -> list[str]:
        unshare(CloneFlag.NEWNS)
        mount.mount("new root", new, "tmpfs", "private")
        (new / "old").mkdir()
        answers = [refusal(pivot_root, new, new / "old")]
        return [*answers, mount.change_root(new)]

    assert seen(in_child(work)) == ["EINVAL", "move"]


@behaviour("mount.pivot-root.unprivileged-eperm", subject="impl")
def test_capability_is_needed(new_root: Path, as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """A process without CAP_SYS_ADMIN can't change the root."""
    for path in (new_root, *list(new_root.parents)[:-2]):
        path.chmod(0o755)
    answers = as_nobody(
        lambda: [refusal(pivot_root, new_root, new_root / "old"), refusal(mount.change_root, new_root, "dot")]
    )
    assert seen(answers) == ["EPERM", "EPERM"]


@behaviour("mount.pivot-root.moves-other-processes", subject="impl")
def test_others_are_moved(new_root: Path, in_namespace: Callable[..., Any], seen: Seen) -> None:
    """Another process whose root and working directory were the old root has the new one as both."""
    (new_root / "marker").touch()

    def work() -> list[list[str]]:
        asked, ask = os.pipe()
        told, tell = os.pipe()
        os.chdir("/")
        pid = os.fork()
        if pid == 0:
            os.read(asked, 1)
            os.write(tell, b"!" if os.path.exists("/marker") and os.path.exists("marker") else b"?")
            os._exit(0)
        os.chdir(new_root)
        mount.change_root(new_root, "put_old", keep_old="old")
        os.write(ask, b"!")
        answer = os.read(told, 1).decode()
        os.waitpid(pid, 0)
        return [answer]  # type: ignore[list-item]

    assert seen(in_namespace(work)) == ["!"]


@behaviour("mount.pivot-root.cwd-elsewhere-kept", subject="impl")
def test_other_directory_is_kept(tree: Path, new_root: Path, in_namespace: Callable[..., Any], seen: Seen) -> None:
    """The caller stays where it was, if that was not the old root."""
    (tree / "b/here").touch()

    def work() -> tuple[list[str], bool]:
        os.chdir(tree / "b")
        pivot_root(new_root, new_root / "old")
        return os.listdir("."), "old" in os.listdir("/")

    there, is_new = in_namespace(work)
    assert is_new
    assert seen(there) == ["here"]


@behaviour("mount.pivot-root.dot-dot", subject="impl")
def test_without_a_directory(new_root: Path, in_namespace: Callable[..., Any], seen: Seen) -> None:
    """pivot_root(".", ".") in the new root and an unmount of "." need no directory; the library does it so too."""

    def by_hand() -> list[str]:
        os.chdir(new_root)
        pivot_root(".", ".")
        umount2(".", UnmountFlag.DETACH)
        return sorted(os.listdir("/"))

    def by_library() -> list[str]:
        assert mount.change_root(new_root) == "dot"
        return sorted(os.listdir("/"))

    assert seen([in_namespace(by_hand), in_namespace(by_library)]) == [["old", "proc"], ["old", "proc"]]
