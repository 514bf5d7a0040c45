"""The kernel's log and taint flags: what is trouble, what a test may provoke, and what that does to its outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof.conformance.kernel_log import Record, judge, name_taints, parse_record

if TYPE_CHECKING:
    from conftest import Project

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures/kernel-log"
WARNED, DIED, FORCED = 1 << 9, 1 << 7, 1 << 1
WARNING = "WARNING: CPU: 0 PID: 77 at net/core/dev.c:11 unregister+0x1/0x2"


def records(*lines: str, facility: int = 0) -> list[Record]:
    return [Record(facility, 0, line) for line in lines]


def test_record() -> None:
    """A record has a priority with facility and level, a time, and a text that ends where its dictionary begins."""
    record = parse_record(b"12,339,5140900,-;text; with, all\n SUBSYSTEM=net\n DEVICE=n3\n")
    assert record == Record(1, 5140900, "text; with, all")
    assert parse_record(b"4,1,2,c,caller=T77;a").facility == 0
    assert str(record) == "[    5.140900] text; with, all"
    with pytest.raises(ValueError, match="without a prefix"):
        parse_record(b"no record")


# Composed after the kernel's sources: lib/bug.c, mm/kasan/report.c, kernel/watchdog.c, kernel/rcu/tree_stall.h,
# kernel/hung_task.c, kernel/locking/lockdep.c, arch/x86/kernel/dumpstack.c, mm/oom_kill.c, net/core/dev.c.
TROUBLE = [
    WARNING,
    "WARNING: net/core/dev.c:11 at unregister+0x1/0x2, CPU#0: ip/77",
    "WARNING: possible circular locking dependency detected",
    "WARNING: suspicious RCU usage",
    "INFO: possible recursive locking detected",
    "kernel BUG at mm/slub.c:435!",
    "BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "BUG: KASAN: use-after-free in foo+0x1/0x2",
    "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580",
    "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [python3:77]",
    "Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
    "invalid opcode: 0000 [#3] SMP",
    "Kernel panic - not syncing: sysrq triggered crash",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_sched self-detected stall on CPU",
    "INFO: task python3:77 blocked for more than 120 seconds.",
    "UBSAN: shift-out-of-bounds in lib/x.c:1:2",
    "Out of memory: Killed process 77 (python3) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:0",
    "unregister_netdevice: waiting for eth0 to become free. Usage count = 2",
]
HARMLESS = [
    "Memory cgroup out of memory: Killed process 77 (python3) total-vm:1kB, anon-rss:1kB",
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/x",
    "traps: python3[77] general protection fault ip:55 sp:7f error:0 in python3.13[55+1]",
    "python3[77]: segfault at 0 ip 0000 sp 0000 error 4 in libc.so.6[7f+1]",
    "traps: a.out[77] trap invalid opcode ip:55 sp:7f error:0",
    "bridge: filtering via arp/ip/ip6tables is no longer available by default.",
    "mydocker0: port 1(veth0) entered blocking state",
    "cgroup: Disabled controller 'memory'",
    "Modules linked in: veth bridge stp llc",
    "------------[ cut here ]------------",
    "clocksource: tsc: mask: 0xffffffffffffffff max_cycles: 0x1",
    "random: crng reseeded due to virtual machine fork",
]


@pytest.mark.parametrize("line", TROUBLE)
def test_trouble(line: str) -> None:
    """Every first line of a report is trouble, when the kernel wrote it and not when user space did."""
    assert judge(records(line), 0).troubles == (line,)
    assert judge(records(line, facility=1), 0).troubles == ()


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless(line: str) -> None:
    """What a kernel says of programs, of cgroups' own limits and of its work is no trouble."""
    assert judge(records(line), 0) == ((), ())


def test_expected() -> None:
    """An expected line is no trouble; one more that nobody expected is; an expected one that is absent is missing."""
    lines = records("quiet", WARNING, TROUBLE[6])
    assert judge(lines, 0, [r"at net/core/dev\.c"]).troubles == (TROUBLE[6],)
    assert judge(lines, 0, [r"at net/core/dev\.c", "NULL pointer"]) == ((), ())
    assert judge(lines, 0, ["WARNING", "NULL", "lockup"]).missing == ("lockup",)
    assert judge(records(WARNING, facility=1), 0, ["WARNING"]).missing == ("WARNING",)


def test_taints() -> None:
    """A new taint is trouble; one that an expected line explains is not, a forced module always is."""
    assert judge([], WARNED | DIED).troubles == ("taint 7: kernel died: oops or BUG", "taint 9: warning issued")
    assert judge(records(WARNING), WARNED, ["WARNING"]).troubles == ()
    assert judge(records(WARNING), WARNED | FORCED, ["WARNING"]).troubles == ("taint 1: module forced to load",)
    assert judge(records(WARNING, TROUBLE[5]), WARNED, ["WARNING"]).troubles[1] == "taint 9: warning issued"
    assert name_taints(1 << 40) == ("taint 40: unknown to kernelproof",)


def recorded(name: str) -> list[Record]:
    """Return the records of a recorded log; those of a console have no prefix."""
    lines = [line for line in (FIXTURES / name).read_bytes().splitlines() if not line.startswith(b"#")]
    if name.startswith("panic"):
        return [Record(0, 0, line.decode().partition("] ")[2]) for line in lines]
    return [parse_record(line) for line in lines if not line.startswith(b" ")]


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
@pytest.mark.parametrize("name", ["boot", "programs", "memcg-oom"])
def test_recorded_and_harmless(name: str, kernel: str) -> None:
    """A boot, programs that fault and a cgroup's own limit leave a log without trouble."""
    log = recorded(f"{name}-{kernel}.txt")
    assert len(log) >= 4
    assert judge(log, 0) == ((), ())


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
@pytest.mark.parametrize(
    ("name", "trouble"), [("oom", "Out of memory: Killed process"), ("panic", "Kernel panic - not syncing")]
)
def test_recorded_trouble(name: str, trouble: str, kernel: str) -> None:
    """The machine without memory and the panic are one trouble each, however many lines they have."""
    (found,) = judge(recorded(f"{name}-{kernel}.txt"), 0).troubles
    assert found.startswith(trouble)


LOGS = "from fake_machines import log\n@behaviour('a.b.c')\ndef test_it():\n    log({!r})\n"
WARNS = f"log('4,1,2,-;{WARNING}\\n')\n"


def test_trouble_fails_a_passing_test(project: Project) -> None:
    """A test that passes while the kernel warns is a fail, with the lines as reason and the log beside it."""
    project.entry("a.b.c")
    project.tests(LOGS.format(f"4,1,2000000,-;before it\n4,1,2000001,-;{WARNING}\n"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*kernel log: {WARNING.replace('[', '[[]')}"])
    row = project.row()
    assert (row["outcome"], row["reason"]) == ("fail", f"kernel log: {WARNING}")
    assert row["log"] == f"[    2.000000] before it\n[    2.000001] {WARNING}"


def test_trouble_before_the_mark_is_not_the_tests(project: Project) -> None:
    """What was in the log before the item began is not held against it."""
    project.entry("a.b.c")
    project.kmsg.write_text(f"4,1,2,-;{WARNING}\n")
    (project.path / "tainted").write_text("512\n")
    project.tests(LOGS.format("6,1,3,-;quiet\n"))
    project.run().assert_outcomes(passed=1)


def test_trouble_in_the_teardown_fails(project: Project) -> None:
    """What the kernel says while fixtures are torn down fails the test as well."""
    project.entry("a.b.c")
    fixture = f"@pytest.fixture\ndef thing():\n    yield\n    {WARNS}"
    project.tests("from fake_machines import log\n" + fixture + "@behaviour('a.b.c')\ndef test_it(thing): pass\n")
    project.run().assert_outcomes(failed=1)
    assert project.row()["outcome"] == "fail"


def test_taint_fails(project: Project) -> None:
    """A taint flag that the test's kernel got fails the test."""
    project.entry("a.b.c")
    project.tests("@behaviour('a.b.c')\ndef test_it():\n    open(os.environ['FAKE_TAINTED'], 'w').write('512')\n")
    project.run().assert_outcomes(failed=1)
    assert project.row()["reason"] == "kernel log: taint 9: warning issued"


def test_trouble_without_a_call(project: Project) -> None:
    """Trouble while a statement turns out not to be applicable makes it broken, not not applicable."""
    project.entry("a.b.c", 'needs = ["pidfs"]')
    project.tests(
        "from kernelproof.conformance import needs\n"
        "from fake_machines import log\n"
        f"def probe(probes, rest):\n    {WARNS}"
        "    return 'no pidfs'\n"
        "needs._PROBES['pidfs'] = probe\n"
        "@behaviour('a.b.c')\ndef test_it(): pass\n"
    )
    project.run()
    assert project.row()["outcome"] == "broken"
    assert WARNING in project.row()["reason"]


def test_expect_log(project: Project) -> None:
    """What `expect_log` names must be there: then the test passes, else it fails."""
    project.entry("a.b.c")
    mark = "@pytest.mark.expect_log(r'WARNING: .* at net/')\n"
    project.tests(LOGS.replace("@b", mark + "@b").format(f"4,1,2,-;{WARNING}\n"))
    project.run().assert_outcomes(passed=1)
    project.tests(LOGS.replace("@b", mark + "@b").format("6,1,2,-;quiet\n"))
    project.run().assert_outcomes(failed=1)
    assert project.row()["reason"] == r"kernel log: nothing matched the expected 'WARNING: .* at net/'"


def test_every_machine_test_is_judged(project: Project) -> None:
    """A machine test that is no behaviour is judged by the kernel's log as well, and has no row."""
    project.entry("a.b.c")
    text = f"@pytest.mark.machine(profile='plain')\ndef test_it():\n    {WARNS}"
    project.tests("from fake_machines import log\n" + text, name="test_other.py")
    project.run().assert_outcomes(failed=1)
    assert not (project.path / "results").exists()


def test_log_that_cannot_be_read_is_broken(project: Project) -> None:
    """Without the kernel's log there is no judgement: broken, with what to give."""
    project.entry("a.b.c")
    project.kmsg.unlink()
    project.tests("@behaviour('a.b.c')\ndef test_it(): pass\n")
    project.run().assert_outcomes(errors=1)
    assert "give the test CAP_SYSLOG" in project.row()["reason"]
