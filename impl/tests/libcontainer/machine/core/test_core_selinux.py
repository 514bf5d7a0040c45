"""SELinux labels of processes and mounts, on a kernel that has the module on, with a policy of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import Request, StartError, lifecycle, running
from kernelproof.impl.libcontainer.config.records import Mount
from kernelproof.impl.libcontainer.config.writing import dump

pytestmark = [pytest.mark.machine(profile="selinux"), pytest.mark.usefixtures("nothing_left")]

# As little as the kernel takes: one class, two domains, a type of files; what it does not name is allowed.
POLICY = """
(handleunknown allow) (mls true) (policycap nnp_nosuid_transition)
(class process (transition dyntransition)) (classorder (process))
(sid kernel) (sid security) (sid unlabeled) (sid fs) (sid file) (sidorder (kernel security unlabeled fs file))
(sensitivity s0) (sensitivityorder (s0)) (category c0) (categoryorder (c0)) (sensitivitycategory s0 (c0))
(user user_u) (role role_r) (role object_r) (userrole user_u role_r) (userrole user_u object_r)
(userlevel user_u (s0)) (userrange user_u ((s0) (s0 (c0))))
(type host_t) (type container_t) (type volume_t)
(roletype role_r host_t) (roletype role_r container_t) (roletype object_r volume_t) (roletype object_r host_t)
(sidcontext kernel (user_u role_r host_t ((s0) (s0))))
(sidcontext security (user_u object_r host_t ((s0) (s0)))) (sidcontext unlabeled (user_u object_r host_t ((s0) (s0))))
(sidcontext fs (user_u object_r host_t ((s0) (s0)))) (sidcontext file (user_u object_r host_t ((s0) (s0))))
(allow host_t container_t (process (transition dyntransition)))
(allow host_t host_t (process (transition dyntransition)))
"""
PROCESS, FILES = "user_u:role_r:container_t:s0", "user_u:object_r:volume_t:s0"


@pytest.fixture
def policy(tmp_path: Path) -> Iterator[None]:
    """The policy, loaded."""
    source, binary = tmp_path / "policy.cil", tmp_path / "policy"
    source.write_text(POLICY)
    words = ["secilc", "-c", "31", "-o", str(binary), "-f", str(tmp_path / "contexts"), str(source)]
    subprocess.run(words, check=True)
    subprocess.run(["mount", "-t", "selinuxfs", "none", "/sys/fs/selinux"], check=True)
    Path("/sys/fs/selinux/load").write_bytes(binary.read_bytes())
    yield
    subprocess.run(["umount", "/sys/fs/selinux"], check=True)


def run(bundle: Any, *args: str, label: str | None, mount_label: str | None = None) -> str:
    """Runs a container whose program writes to /out, and returns what it wrote."""
    mounts = (Mount("/proc", "proc", "proc"), Mount("/tmp", "tmpfs", "tmpfs"))
    config = bundle.config(*args, mounts=mounts, mount_label=mount_label)
    config = config.replace(process=config.process.replace(selinux_label=label))
    text = dump(config, own=True).encode()
    started = lifecycle.run(str(bundle.states), config, Request("box", str(bundle.path), waits=False), config_text=text)
    os.close(started.pidfd)
    code = running.await_end(started)
    lifecycle.delete(str(bundle.states), "box")
    assert code == 0
    return str((bundle.rootfs / "out").read_text())


def test_a_program_and_its_files(bundle: Any, cgroup2: Path, policy: None) -> None:
    """The program runs under selinuxLabel, and what is on a mount of its own has mountLabel."""
    script = "cat /proc/self/attr/current > /out; touch /tmp/file; grep ' /tmp ' /proc/self/mounts >> /out"
    (bundle.rootfs / "bin/grep").symlink_to("busybox")
    label, mounted = (
        run(bundle, "sh", "-c", script, label=PROCESS, mount_label=FILES).replace("\0", "\n").split("\n")[:2]
    )
    assert label == PROCESS
    assert f"context={FILES}" in mounted.replace('"', "")


def test_a_label_that_the_policy_lacks(bundle: Any, cgroup2: Path, policy: None) -> None:
    """It ends the start with the label's file and EINVAL, and nothing is left."""
    with pytest.raises(StartError, match=r"LabelProgram .*attr/.*exec.*EINVAL") as failed:
        run(bundle, "true", label="user_u:role_r:nosuch_t:s0")
    assert failed.value.stage == "final"


def test_without_a_policy(bundle: Any, cgroup2: Path) -> None:
    """The kernel takes any label then, and the program's is the one that all have."""
    subprocess.run(["mount", "-t", "selinuxfs", "none", "/sys/fs/selinux"], check=True)
    assert run(bundle, "sh", "-c", "cat /proc/self/attr/current > /out", label=PROCESS).strip("\0\n") == "kernel"
    subprocess.run(["umount", "/sys/fs/selinux"], check=True)
