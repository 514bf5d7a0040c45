"""User namespaces: how deep they nest, who makes them, and which capabilities come with them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import status_bits, status_words
from kernelproof.impl import mount
from kernelproof.impl._syscalls.execution import execve
from kernelproof.impl._syscalls.identity import sethostname
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.prctl import PR_GET_SECUREBITS, PR_SET_SECUREBITS, SECBIT_NOROOT, prctl
from kernelproof.impl._syscalls.surroundings import chroot
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from kernelproof.conformance.conftest import InChild, OutputOf, Unprivileged
    from kernelproof.conformance.namespaces.conftest import InUserNamespace
    from kernelproof.conformance.seen import Seen

OVERFLOW = Path("/proc/sys/kernel/overflowuid")


def full_set() -> int:
    """A capability set with all that the kernel knows."""
    return (2 << int(Path("/proc/sys/kernel/cap_last_cap").read_text())) - 1


def nest(seen: Seen) -> tuple[int, str]:
    """Make user namespaces in each other until one is refused; return how many were made, and the errno."""
    for level in range(100):
        answer = seen.errno_of(unshare, CloneFlag.NEWUSER)
        if answer != "no error":
            return level, answer
        for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
            perform(WriteFile(f"/proc/self/{name}", text))  # else its user is nobody, who makes none
    return 100, "no error"


@behaviour("namespaces.user.nesting-limit")
def test_depth_of_nesting(in_child: InChild, seen: Seen) -> None:
    """32 levels can be made below the initial namespace."""
    assert seen(in_child(lambda: nest(seen)[0])) == 32


@behaviour("namespaces.user.nesting-limit-errno")
def test_too_deep_nesting(in_child: InChild, seen: Seen) -> None:
    """One level more than the limit gives ENOSPC."""
    assert seen(in_child(lambda: nest(seen)[1])) == "ENOSPC"


@behaviour("namespaces.user.unmapped-caller")
def test_caller_without_id(in_child: InChild, seen: Seen) -> None:
    """A process whose uid is not mapped makes no user namespace: EPERM."""
    answers = in_child(lambda: [seen.errno_of(unshare, CloneFlag.NEWUSER) for _ in range(2)])
    assert seen(answers) == ["no error", "EPERM"]


@behaviour("namespaces.user.chrooted-caller")
def test_caller_in_a_chroot(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """A process in a chroot makes no user namespace: EPERM."""

    def make() -> str:
        chroot(tmp_path)
        return seen.errno_of(unshare, CloneFlag.NEWUSER)

    assert seen(in_child(make)) == "EPERM"


@behaviour("namespaces.user.unshare-multithreaded")
def test_caller_with_threads(
    in_child: InChild, second_thread: Callable[[], AbstractContextManager[None]], seen: Seen
) -> None:
    """A process with two threads makes no user namespace: EINVAL."""

    def make() -> list[str]:
        with second_thread():
            threaded = seen.errno_of(unshare, CloneFlag.NEWUSER)
        return [threaded, seen.errno_of(unshare, CloneFlag.NEWUSER)]

    assert seen(in_child(make)) == ["EINVAL", "no error"]


@behaviour("namespaces.user.creator-gets-full-caps")
def test_creator_has_all_capabilities(unprivileged: Unprivileged, seen: Seen) -> None:
    """Who makes a user namespace has every capability in it, though he had none."""

    def make() -> list[int]:
        before = status_bits("CapPrm") | status_bits("CapEff")
        unshare(CloneFlag.NEWUSER)
        return [before, status_bits("CapPrm"), status_bits("CapEff")]

    assert seen(unprivileged(make)) == [0, full_set(), full_set()]


@behaviour("namespaces.user.root-loses-caps-outside")
def test_root_has_no_power_outside(in_child: InChild, seen: Seen) -> None:
    """Root that made a user namespace can't set the host name of the UTS namespace that it was in: EPERM."""

    def act() -> list[Any]:
        before = seen.errno_of(sethostname, "outside")
        unshare(CloneFlag.NEWUSER)
        return [before, seen.errno_of(sethostname, "inside"), os.uname().nodename]

    assert seen(in_child(act)) == ["no error", "EPERM", "outside"]


@behaviour("namespaces.user.securebits-reset")
def test_securebits_start_anew(in_child: InChild, seen: Seen) -> None:
    """The securebits in a new user namespace are 0."""

    def act() -> list[int]:
        prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)
        before = prctl(PR_GET_SECUREBITS)
        unshare(CloneFlag.NEWUSER)
        return [before, prctl(PR_GET_SECUREBITS)]

    assert seen(in_child(act)) == [SECBIT_NOROOT, 0]


@behaviour("namespaces.user.exec-without-mapping-drops-caps")
def test_program_of_nobody(output_of: OutputOf, unprivileged: Unprivileged, seen: Seen) -> None:
    """A process without uid mapping loses its capabilities when it runs a program; a mapped root keeps them."""

    def run(uid_map: str) -> list[str]:
        unshare(CloneFlag.NEWUSER)
        if uid_map:
            perform(WriteFile("/proc/self/uid_map", uid_map))
        had = status_words("CapEff")
        told = output_of(lambda: execve("/bin/grep", ["grep", "-E", "Cap(Prm|Eff)", "/proc/self/status"]))
        return [*had, *told.split()[1::2]]

    full, none = f"{full_set():016x}", "0" * 16
    assert unprivileged(lambda: run("0 65534 1")) == [full] * 3
    assert seen(unprivileged(lambda: run(""))) == [full, none, none]


@behaviour("namespaces.user.unmapped-id-shows-overflow")
def test_uid_without_mapping(in_child: InChild, seen: Seen) -> None:
    """A uid without mapping shows as the overflow uid, 65534."""

    def look() -> list[Any]:
        before = os.getuid()
        unshare(CloneFlag.NEWUSER)
        return [before, os.getuid(), status_words("Uid")]

    assert OVERFLOW.read_text() == "65534\n"
    assert seen(in_child(look)) == [0, 65534, ["65534"] * 4]


@behaviour("namespaces.user.file-caps-need-both-ids-mapped")
def test_file_of_an_unmapped_group(in_user_namespace: InUserNamespace, tmp_path: Path, seen: Seen) -> None:
    """Root of a user namespace passes a file's mode if its owner and its group are mapped, and not else: EACCES."""
    for name, gid in (("mapped", 0), ("unmapped", 5000)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0)
        os.chown(tmp_path / name, 0, gid)

    def read() -> list[str]:
        return [seen.errno_of((tmp_path / name).read_bytes) for name in ("mapped", "unmapped")]

    assert seen(in_user_namespace(read, uids="0 0 1", gids="0 0 1")) == ["no error", "EACCES"]


@behaviour("namespaces.user.setuid-program-unmapped-owner")
def test_set_user_id_program_of_nobody(
    in_user_namespace: InUserNamespace, output_of: OutputOf, tmp_path: Path, seen: Seen
) -> None:
    """A set-user-ID program whose owner is not mapped runs with the caller's uid."""
    mount.mount("programs", tmp_path, "tmpfs", "mode=755")
    for name, owner in (("mapped", 7), ("unmapped", 7777)):
        program = tmp_path / name
        program.write_bytes(Path("/usr/bin/id").read_bytes())
        os.chown(program, owner, 0)
        program.chmod(0o4755)

    def run(name: str) -> str:
        return output_of(lambda: execve(tmp_path / name, ["id", "-u"]))

    assert seen(in_user_namespace(lambda: [run("mapped"), run("unmapped")], uids="0 0 100")) == ["7\n", "0\n"]


@behaviour("namespaces.user.mknod-refused")
def test_device_file_in_a_user_namespace(in_user_namespace: InUserNamespace, tmp_path: Path, seen: Seen) -> None:
    """Root of a user namespace makes no character device, on its own tmpfs neither: EPERM."""

    def make(name: str, kind: int) -> str:
        return seen.errno_of(os.mknod, tmp_path / name, kind | 0o600, os.makedev(1, 3))

    def act() -> list[str]:
        mount.mount("mine", tmp_path, "tmpfs", "")
        return [make("fifo", stat.S_IFIFO), make("device", stat.S_IFCHR)]

    assert make("outside", stat.S_IFCHR) == "no error"
    assert seen(in_user_namespace(act, flags=CloneFlag.NEWNS)) == ["no error", "EPERM"]
