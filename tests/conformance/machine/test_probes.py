"""The probes and the log's judge on a real kernel: by use, and without a trace that a test could meet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelproof.conformance.kernel_log import KernelLog
from kernelproof.conformance.kernel_ranges import parse_series
from kernelproof.conformance.needs import MachineLacks, NotApplicable, Probes

pytestmark = pytest.mark.machine

SERIES = parse_series(os.uname().release)


def absent(*words: str) -> str:
    """Return why something is absent; empty when all is there."""
    try:
        Probes().check(words)
    except (NotApplicable, MachineLacks) as reason:
        return str(reason)
    return ""


def read_cgroups() -> str:
    return Path("/proc/cgroups").read_text() + Path("/proc/self/cgroup").read_text()


def test_modules_are_loaded() -> None:
    """A need for an option that is a module loads it with what it depends on; a second time is no error."""
    assert not Path("/sys/module/vxlan").exists()
    assert absent("CONFIG_VXLAN") == ""
    assert Path("/sys/module/vxlan").exists()
    assert Path("/sys/module/udp_tunnel").exists()
    assert absent("CONFIG_VXLAN", "CONFIG_NET_NS") == ""


def test_option_that_is_not_set() -> None:
    """An option that this kernel was built without makes a statement not applicable."""
    assert absent("CONFIG_SURELY_NOT") == "the kernel is built without CONFIG_SURELY_NOT"


def test_version_1_controllers() -> None:
    """A version 1 controller is there or not as the kernel says, and asking makes no hierarchy."""
    before = read_cgroups()
    assert absent("cgroup-v1", "cgroup-v1:freezer", "cgroup-v1:devices", "cgroup-v1:pids") == ""
    assert "no version 1 controller nothing" in absent("cgroup-v1:nothing")
    config = Path(f"/boot/config-{os.uname().release}").read_text()
    is_there = "# CONFIG_MEMCG_V1 is not set" not in config
    assert (absent("cgroup-v1:memory") == "") is is_there
    assert read_cgroups() == before


def test_version_2_controllers() -> None:
    """A version 2 controller is there when the unified hierarchy offers it; nothing is mounted by asking."""
    mounts = Path("/proc/self/mountinfo").read_text()
    assert absent("cgroup-v2", "cgroup-v2:memory", "cgroup-v2:pids", "nsdelegate") == ""
    assert "cgroup.controllers has no nothing" in absent("cgroup-v2:nothing")
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_file_attributes() -> None:
    """Temporary files of a machine take the attributes that statements about capabilities and overlays need."""
    assert absent("xattr-filesystem", "trusted-xattr") == ""


def test_mapped_mounts_and_pidfds() -> None:
    """Newer features are found by use where the kernel's history has them, and nothing is left open."""
    descriptors = os.listdir("/proc/self/fd")
    assert (absent("idmapped-tmpfs") == "") is (SERIES >= (6, 3))
    assert (absent("pidfs") == "") is (SERIES >= (6, 9))
    assert os.listdir("/proc/self/fd") == descriptors
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_machine_needs() -> None:
    """The plain machine runs as root on two CPUs, with neither disc nor swap."""
    assert absent("CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE", "cpus:2", "command:ip") == ""
    assert "no scratch disc" in absent("block-device")
    assert "lists no swap area" in absent("swap")
    assert "is not on the initial ramfs" in absent("initial-ramfs")


def test_log_of_user_space_is_not_the_kernels() -> None:
    """What user space writes into the log is read as such, whatever it calls itself."""
    log = KernelLog()
    Path("/dev/kmsg").write_text("<0>BUG: made up\n")
    assert [(record.facility, record.text) for record in log.read_new()] == [(1, "BUG: made up")]
    assert log.read_new() == []
    log.close()


@pytest.mark.expect_log("Out of memory: Killed process")
def test_out_of_memory_of_the_whole_machine() -> None:
    """A kill because the whole machine is out of memory is in the log; this test says that it expects it."""
    child = os.fork()
    if child == 0:
        Path("/proc/self/oom_score_adj").write_text("1000")
        held = []
        while True:
            held.append(b"x" * 2**24)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -9


def test_new_taint_is_seen_once() -> None:
    """A taint that is set after the mark is seen, once."""
    log = KernelLog()
    assert log.new_taints() == 0
    log.close()
