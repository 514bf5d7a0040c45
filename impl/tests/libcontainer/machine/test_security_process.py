"""What a plan makes of a process, as /proc tells it after the program has begun."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    ExecCpuAffinity,
    IoPriority,
    Linux,
    MemoryPolicy,
    Personality,
    Process,
    Rlimit,
    Scheduler,
    User,
)
from kernelproof.impl.libcontainer.security.capabilities import mask_of
from kernelproof.impl.libcontainer.security.planning import Container
from kernelproof.impl.tests.libcontainer.machine.shaped import STATUS, shaped

if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.operations import Site

pytestmark = pytest.mark.machine

FOUR = ("CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID")
SETS = Capabilities(bounding=FOUR, effective=FOUR[:2], inheritable=FOUR[:3], permitted=FOUR[:3], ambient=FOUR[:2])


def mask(*names: str) -> int:
    """The set of some names."""
    return mask_of(names)[0]


def process(*args: str, **how: object) -> Process:
    """A process with the arguments and whatever else is asked."""
    return Process("/", args or STATUS, **how)  # type: ignore[arg-type]


def test_five_sets_of_root() -> None:
    """Root has after exec what bounding and inheritable give; bounding and inheritable are as configured."""
    ended = shaped(process(capabilities=SETS))
    assert ended.mask("CapBnd") == mask(*FOUR)
    assert ended.mask("CapInh") == mask(*FOUR[:3])
    assert ended.mask("CapPrm") == ended.mask("CapEff") == mask(*FOUR)


def test_five_sets_of_a_user() -> None:
    """A user keeps over exec what is ambient, and nothing else."""
    ended = shaped(process(capabilities=SETS, user=User(1000, 1000)))
    assert ended.status("Uid").split() == ["1000"] * 4
    assert ended.mask("CapAmb") == ended.mask("CapPrm") == ended.mask("CapEff") == mask(*FOUR[:2])
    assert (ended.mask("CapInh"), ended.mask("CapBnd")) == (mask(*FOUR[:3]), mask(*FOUR))


@pytest.mark.rule("K7")
def test_nothing_is_inheritable_unless_asked() -> None:
    """Without a word about inheritable capabilities none are, though the runtime's own are."""

    def inherit(site: Site) -> None:
        from kernelproof.impl._syscalls.capabilities import capget, capset

        effective, permitted, _ = capget()
        capset(effective, permitted, permitted)

    plain = Capabilities(bounding=FOUR, effective=FOUR, permitted=FOUR)
    ended = shaped(process(capabilities=plain), before=inherit)
    assert (ended.mask("CapInh"), ended.mask("CapAmb")) == (0, 0)


def test_nothing_said_is_nothing_granted() -> None:
    """Without a word about capabilities root has none, and can't gain any."""
    ended = shaped(process())
    assert [ended.mask(name) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")] == [0] * 5


def test_capability_that_the_runtime_lacks_is_left_out() -> None:
    """What the runtime does not have is not granted, and is no error."""

    def drop(site: Site) -> None:
        from kernelproof.impl._syscalls.capabilities import capget, capset, drop_bounding

        effective, permitted, _ = capget()
        drop_bounding(13)
        capset(effective & ~(1 << 13), permitted & ~(1 << 13), 0)

    ended = shaped(process(capabilities=SETS), before=drop)
    assert ended.code == 0, ended.output
    assert ended.mask("CapBnd") == ended.mask("CapPrm") == mask(*FOUR) & ~mask("CAP_NET_RAW")


def test_unknown_capability_is_left_out() -> None:
    """A name that nobody knows grants nothing and stops nothing."""
    ended = shaped(process(capabilities=Capabilities(bounding=("CAP_FLY", "CAP_KILL"), permitted=("CAP_FLY",))))
    assert (ended.code, ended.mask("CapBnd")) == (0, mask("CAP_KILL"))


def test_no_new_privileges() -> None:
    """no_new_privs is set where asked and not where not."""
    assert [shaped(process(no_new_privileges=asked)).status("NoNewPrivs") for asked in (True, False)] == ["1", "0"]


def test_identity() -> None:
    """User, group, all groups and the file mode mask are as configured, and no group of the runtime's stays."""

    def join(site: Site) -> None:
        os.setgroups([4, 5])

    ended = shaped(process(user=User(1000, 1001, 0o027, (7, 9))), before=join)
    assert [ended.status(name).split() for name in ("Uid", "Gid", "Groups")] == [["1000"] * 4, ["1001"] * 4, ["7", "9"]]
    assert ended.status("Umask") == "0027"
    ended = shaped(process(user=User(0, 0)), before=join)
    assert (ended.status("Groups"), ended.status("Umask")) == ("", "0022")


def test_limits() -> None:
    """Limits are as configured, also raised ones, 64 bits wide."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = (
        Rlimit("RLIMIT_NOFILE", hard + 16, 64),
        Rlimit("RLIMIT_FSIZE", 2**64 - 1, 2**63 + 5),
        Rlimit("RLIMIT_CORE", 0, 0),
    )
    ended = shaped(process("/usr/bin/cat", "/proc/self/limits", rlimits=limits))
    rows = {line[:25].strip(): line[25:].split()[:2] for line in ended.output.splitlines()}
    assert rows["Max open files"] == ["64", str(hard + 16)]
    assert rows["Max file size"] == [str(2**63 + 5), "unlimited"]
    assert rows["Max core file size"] == ["0", "0"]


def test_address_space_that_this_interpreter_would_not_fit() -> None:
    """A limit on address space below what the runtime itself uses still starts the program."""
    small = Rlimit("RLIMIT_AS", 12 << 20, 12 << 20)
    ended = shaped(process("/usr/bin/cat", "/proc/self/limits", rlimits=(small,)))
    assert "12582912" in ended.output, ended.output


def test_limit_above_the_hard_one_without_the_right() -> None:
    """Without CAP_SYS_RESOURCE a higher hard limit is refused with EPERM, and the error says what was the most."""

    def lower(site: Site) -> None:
        from kernelproof.impl._syscalls.capabilities import capget, capset

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        effective, permitted, _ = capget()
        capset(effective & ~(1 << 24), permitted & ~(1 << 24), 0)

    ended = shaped(process(rlimits=(Rlimit("RLIMIT_NOFILE", 128, 128),)), before=lower)
    told = json.loads(ended.output)
    assert told["error"] == "PermissionError"
    assert any("64 is the most without CAP_SYS_RESOURCE" in note for note in told["notes"])


def test_oom_score() -> None:
    """The OOM killer's adjustment is written where asked."""
    assert shaped(process("/usr/bin/cat", "/proc/self/oom_score_adj", oom_score_adj=-17)).output == "-17\n"


@pytest.mark.parametrize("source", ["tmpfs", "sibling"])
@pytest.mark.rule("K2")
def test_write_is_not_led_elsewhere(source: str, tmp_path: Path) -> None:
    """With something mounted over /proc/self the adjustment goes to the kernel all the same, and nowhere else."""

    def cover(site: Site) -> None:
        from kernelproof.impl._syscalls.mount import MountFlag, mount
        from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

        unshare(CloneFlag.NEWNS)
        mount(None, "/", None, MountFlag.PRIVATE | MountFlag.REC)
        own = f"/proc/{os.getpid()}"
        if source == "tmpfs":
            mount("none", f"{own}/task", "tmpfs")
            (Path(own) / "task" / str(os.getpid())).mkdir()
            (Path(own) / "task" / str(os.getpid()) / "oom_score_adj").write_text("decoy")
        else:
            mount(
                f"/proc/{os.getppid()}/oom_score_adj", f"{own}/task/{os.getpid()}/oom_score_adj", None, MountFlag.BIND
            )

    before = Path("/proc/self/oom_score_adj").read_text()
    ended = shaped(process("/usr/bin/cat", "/proc/self/oom_score_adj", oom_score_adj=321), before=cover)
    assert ended.output == "321\n"
    assert Path("/proc/self/oom_score_adj").read_text() == before


def test_scheduler_and_io() -> None:
    """Policy, nice and I/O priority are as configured."""
    how = process(
        "/usr/bin/cat",
        "/proc/self/sched",
        scheduler=Scheduler("SCHED_BATCH", nice=7),
        io_priority=IoPriority("IOPRIO_CLASS_IDLE"),
    )
    ended = shaped(how)
    rows = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in ended.output.splitlines() if ":" in line}
    assert (rows["policy"], rows["prio"]) == ("3", "127")


def test_real_time() -> None:
    """SCHED_FIFO with a priority, and that flag which keeps children out of it."""
    how = Scheduler("SCHED_FIFO", priority=10, flags=("SCHED_FLAG_RESET_ON_FORK",))
    ended = shaped(process("/usr/bin/cat", "/proc/self/stat", scheduler=how))
    fields = ended.output.rpartition(")")[2].split()
    assert (fields[37], fields[38]) == ("10", "1")  # rt_priority, policy


def test_cpus_of_exec() -> None:
    """A process of exec runs on the CPUs of its final list; the first process does not."""
    affinity = ExecCpuAffinity(final="1")
    entering = Container(new_keyring=False, is_exec=True)
    assert shaped(process(exec_cpu_affinity=affinity), container=entering).status("Cpus_allowed_list") == "1"
    assert shaped(process(exec_cpu_affinity=affinity)).status("Cpus_allowed_list") != "1"


def test_domain_and_memory_policy() -> None:
    """The execution domain makes uname tell a 32-bit machine; pages come by the memory policy."""
    linux = Linux(personality=Personality("LINUX32"), memory_policy=MemoryPolicy("MPOL_BIND", "0"))
    ended = shaped(process("/usr/bin/uname", "-m"), linux=linux)
    assert (ended.output, ended.code) == ("i686\n", 0)
    ended = shaped(process("/usr/bin/cat", "/proc/self/numa_maps"), linux=linux)
    assert "bind" in ended.output.splitlines()[0]


def test_keyring() -> None:
    """The session keyring is of the container's name, and a second process of the name has the same one."""
    how = Container("kp-test")
    lines = [shaped(process("/usr/bin/cat", "/proc/keys"), container=how).output for _ in range(2)]
    rings = [next(line for line in text.splitlines() if "_ses.kp-test" in line) for text in lines]
    assert all("keyring" in ring for ring in rings)


@pytest.mark.parametrize("uid", [0, 1000])
def test_descriptors(uid: int) -> None:
    """A descriptor that is open and inheritable does not reach the program; those to be preserved do."""

    def leak(site: Site) -> None:
        for number in (3, 4, 9, 20):
            os.dup2(0, number)

    how = process("/usr/bin/ls", "/proc/self/fd", user=User(uid, uid), capabilities=Capabilities())
    ended = shaped(how, before=leak, container=Container(new_keyring=False, preserved=1))
    assert ended.output.split() == ["0", "1", "2", "3", "4"]  # 4 is the directory that ls reads


@pytest.mark.parametrize(("uid", "shown"), [(0, "0"), (1, "1"), (4294967294, "4294967294")])
@pytest.mark.rule("K6")
def test_user_is_a_number(uid: int, shown: str) -> None:
    """The user is the number that was given, whatever the passwd file says of it."""
    assert shaped(process(user=User(uid, uid))).status("Uid").split() == [shown] * 4


def test_apparmor_profile_that_is_not_loaded() -> None:
    """A profile that AppArmor does not have is refused with ENOENT and what to do."""
    told = json.loads(shaped(process(apparmor_profile="kp-absent")).output)
    assert told["error"] == "FileNotFoundError"
    assert any("apparmor_parser" in note for note in told["notes"])


def test_selinux_label_where_selinux_is_off() -> None:
    """An SELinux label where SELinux is off is an error of the plan that lists what is on."""
    with pytest.raises(
        ValueError, match=r"process\.selinuxLabel: selinux is not on here \(security modules: .*apparmor"
    ):
        shaped(process(selinux_label="system_u:system_r:container_t:s0"))
