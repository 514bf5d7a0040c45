"""Whole containers with every layer of security and a network, as their programs, hooks and exec see it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import Request, lifecycle, running
from kernelproof.impl.libcontainer.config.own import Landlock, LandlockPath, Network
from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Config,
    Hook,
    Hooks,
    Mount,
    Process,
    Rlimit,
    Seccomp,
    SeccompRule,
    User,
)
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.security.landlock import read_abi, rights_of
from kernelproof.impl.tests.libcontainer.machine.core.conftest import FIRST_ID, KINDS, PROC
from kernelproof.impl.tests.libcontainer.machine.core.conftest import bundle as bundle
from kernelproof.impl.tests.libcontainer.machine.core.conftest import cgroup2 as cgroup2
from kernelproof.impl.tests.libcontainer.machine.core.conftest import cgroups as cgroups
from kernelproof.impl.tests.libcontainer.machine.core.conftest import nothing_left as nothing_left

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]

ONE = ("CAP_NET_RAW",)
WRITE_STATUS = "cat /proc/self/status > /tmp/{0}; mkdir /tmp/made 2> /tmp/refused.{0}"


def shaped_process(name: str, *, command: str = WRITE_STATUS) -> Process:
    """A process of a user with one capability, which writes its own status."""
    return Process(
        "/",
        ("sh", "-c", command.format(name)),
        ("PATH=/bin",),
        user=User(1000, 1000, None, (7,)),
        capabilities=Capabilities(ONE, ONE, ONE, ONE, ONE),
        rlimits=(Rlimit("RLIMIT_NOFILE", 32, 16),),
        no_new_privileges=True,
        oom_score_adj=77,
    )


def shaped_config(bundle: Any, process: Process) -> Config:
    """A configuration with a filter, and Landlock where it is."""
    (bundle.rootfs / "tmp").chmod(0o1777)
    made: Config = bundle.config("true")
    rule = SeccompRule(("mkdir", "mkdirat"), "SCMP_ACT_ERRNO", 18)
    linux = made.linux.replace(seccomp=Seccomp("SCMP_ACT_ALLOW", syscalls=(rule,)))
    landlock = Landlock(1, paths=(LandlockPath("/", rights_of(1)),)) if read_abi() else None
    return made.replace(process=process, linux=linux, landlock=landlock)


def fields(path: Path) -> dict[str, list[str]]:
    """The lines of a status file."""
    return {name: value.split() for name, value in (line.split(":", 1) for line in path.read_text().splitlines())}


def run(bundle: Any, config: Config) -> lifecycle.Started:
    """Make a container and let its program begin."""
    text = dump(config, own=True).encode()
    return lifecycle.run(str(bundle.states), config, Request("box", str(bundle.path), waits=False), config_text=text)


def assert_shaped(found: dict[str, list[str]]) -> None:
    """The status is that of the configured process."""
    assert [found[name] for name in ("Uid", "Groups", "NoNewPrivs", "Seccomp")] == [["1000"] * 4, ["7"], ["1"], ["2"]]
    assert {found[name][0].lstrip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"2000"}


def test_program_hook_and_exec(bundle: Any, cgroup2: Path) -> None:
    """The program, a hook in the container, and exec, also of what names no capabilities, have the same rights."""
    config = shaped_config(bundle, shaped_process("first", command=WRITE_STATUS + "; sleep 1000"))
    hook = Hook("/bin/sh", ("sh", "-c", WRITE_STATUS.format("hook") + "; true"), ("PATH=/bin",))
    started = run(bundle, config.replace(hooks=Hooks(start_container=(hook,))))
    executed = running.execute(str(bundle.states), "box", shaped_process("exec"))
    silent = running.execute(str(bundle.states), "box", shaped_process("silent").replace(capabilities=None))
    try:
        assert (running.await_end(executed), running.await_end(silent)) == (1, 1)
        for name in ("first", "hook", "exec", "silent"):
            assert_shaped(fields(bundle.rootfs / "tmp" / name))
            assert "Invalid cross-device link" in (bundle.rootfs / "tmp" / f"refused.{name}").read_text()
    finally:
        lifecycle.delete(str(bundle.states), "box", force=True)
        running.await_end(started)
        os.close(started.pidfd)
        os.close(executed.pidfd)
        os.close(silent.pidfd)


def test_network_of_a_container(bundle: Any, cgroup2: Path) -> None:
    """With `network: bridge` the container has an address and its lo; the host's links are after it as before."""
    config = shaped_config(
        bundle, Process("/", ("sh", "-c", "cat /proc/net/fib_trie > /tmp/addresses"), ("PATH=/bin",))
    )
    started = run(bundle, config.replace(networks=(Network("bridge"),)))
    assert running.await_end(started) == 0
    os.close(started.pidfd)
    found = (bundle.rootfs / "tmp/addresses").read_text()
    assert "10.177.0.2" in found
    assert "127.0.0.1" in found
    lifecycle.delete(str(bundle.states), "box", force=True)


HOSTILE = "1000:x:0:0::/:/bin/sh\nbob:x:1234:7::/:/bin/sh\n"


@pytest.mark.rule("K6")
@pytest.mark.parametrize(
    ("user", "uid"),
    [(User(1000, 1000), "1000"), (User(lookup="1000"), "1000"), (User(lookup="bob"), "1234")],
    ids=["number", "text", "name"],
)
def test_number_is_no_name(bundle: Any, cgroup2: Path, user: User, uid: str) -> None:
    """A number is that user, though the image's passwd has a line of this name that says root; a name is looked up."""
    (bundle.rootfs / "etc/passwd").write_text(HOSTILE)
    (bundle.rootfs / "etc/group").write_text("1000:x:0:\n")
    config = shaped_config(
        bundle, Process("/", ("sh", "-c", "cat /proc/self/status > /tmp/id"), ("PATH=/bin",), user=user)
    )
    started = run(bundle, config)
    assert running.await_end(started) == 0
    os.close(started.pidfd)
    assert fields(bundle.rootfs / "tmp/id")["Uid"] == [uid] * 4
    lifecycle.delete(str(bundle.states), "box", force=True)


TRY_TO_RELEASE = """
for file in /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent; do
    test -e $file && echo /tmp/escaped 2> /dev/null > $file && echo wrote $file >> /tmp/wrote
done
for place in /sys/fs/cgroup /sys/fs/cgroup/*; do
    mkdir $place/kp-made 2> /dev/null && echo made $place >> /tmp/wrote
done
true
"""


@pytest.mark.parametrize("user", [False, True], ids=["root", "mapped"])
def test_release_agent_is_out_of_reach(bundle: Any, cgroups: str, user: bool) -> None:
    """A container with mounted cgroups can neither set a release agent nor make a cgroup, mapped or as real root."""
    (bundle.rootfs / "sys").mkdir()
    cgroup = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", "ro"))
    kinds = (*KINDS, "user") if user else KINDS
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")) if user else ():
        os.chown(path, FIRST_ID, FIRST_ID, follow_symlinks=False)
    (bundle.rootfs / "tmp").chmod(0o1777)
    sysfs = Mount("/sys", "tmpfs", "tmpfs")
    made: Config = bundle.config("true", kinds=kinds, mounts=(PROC, sysfs, cgroup))
    assert made.process is not None
    started = run(bundle, made.replace(process=made.process.replace(args=("sh", "-c", TRY_TO_RELEASE))))
    assert running.await_end(started) == 0
    os.close(started.pidfd)
    assert not (bundle.rootfs / "tmp/wrote").exists()
    lifecycle.delete(str(bundle.states), "box", force=True)
