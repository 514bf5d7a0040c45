"""From a configuration to what shapes the process, without root and without doing any of it."""

from __future__ import annotations

import pytest

from kernelproof.impl.libcontainer.config.own import Landlock
from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Config,
    ExecCpuAffinity,
    IoPriority,
    Linux,
    MemoryPolicy,
    Namespace,
    Personality,
    Process,
    Rlimit,
    Scheduler,
    Seccomp,
    SeccompRule,
    User,
)
from kernelproof.impl.libcontainer.executing import plan_process_security
from kernelproof.impl.libcontainer.facts import Host
from kernelproof.impl.libcontainer.nsinit.options import UsageError
from kernelproof.impl.libcontainer.nsinit.values import parse_user
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.security.capabilities import (
    FinishCapabilities,
    LimitCapabilities,
    SetCapabilities,
    finish,
    mask_of,
    names_of,
    shown,
)
from kernelproof.impl.libcontainer.security.identity import BecomeUser
from kernelproof.impl.libcontainer.security.labels import LabelProgram, parse_current
from kernelproof.impl.libcontainer.security.planning import Container, plan_security
from kernelproof.impl.libcontainer.security.scheduling import parse_list

HOST = Host(security_modules=("capability", "apparmor"))
CONTAINER = Container("kp", "/bundle")
FILTER = Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("mkdir",), "SCMP_ACT_ERRNO"),))


def names(config: Config, container: Container = CONTAINER, host: Host = HOST) -> list[str]:
    """The operations' names, in order."""
    return [type(each).__name__ for each in plan_security(config, host, container)]


def config(linux: Linux | None = None, landlock: Landlock | None = None, **process: object) -> Config:
    """A configuration whose process has what is given."""
    shaped = Process("/", ("true",), **process)  # type: ignore[arg-type]
    return Config("1.3.0", process=shaped, linux=linux or Linux(), landlock=landlock)


def test_least() -> None:
    """Without a word about security the process has a keyring, a file mode mask, a user, and no rights."""
    least = ["JoinKeyring", "SetUmask", "LimitCapabilities", "BecomeUser", "SetCapabilities", "CloseOnExec"]
    assert names(config()) == least
    assert names(config(), Container("kp", new_keyring=False))[0] == "SetUmask"


def test_who_names_no_capabilities() -> None:
    """A first process then has none, a further one those of the first; who names some has those."""
    own = Capabilities(bounding=("CAP_KILL",), permitted=("CAP_KILL",))
    said = config(capabilities=own)

    def permitted(plan: tuple[Operation, ...]) -> list[int]:
        return [each.permitted for each in plan if isinstance(each, SetCapabilities)]

    assert permitted(plan_security(config(), HOST, CONTAINER)) == [0]
    assert permitted(plan_process_security(said, Process("/", ("true",)), HOST)) == [1 << 5]
    assert permitted(plan_process_security(config(), Process("/", ("true",)), HOST)) == [0]
    more = Process("/", ("true",), capabilities=Capabilities(permitted=("CAP_CHOWN",)))
    assert permitted(plan_process_security(said, more, HOST)) == [1]


def test_order() -> None:
    """Everything at once is in the order that its rights allow."""
    full = config(
        Linux(seccomp=FILTER, personality=Personality("LINUX32"), memory_policy=MemoryPolicy("MPOL_LOCAL")),
        Landlock(1),
        capabilities=Capabilities(bounding=("CAP_KILL",)),
        no_new_privileges=True,
        rlimits=(Rlimit("RLIMIT_NOFILE", 10, 10),),
        oom_score_adj=5,
        apparmor_profile="kp",
        scheduler=Scheduler("SCHED_BATCH"),
        io_priority=IoPriority("IOPRIO_CLASS_BE", 3),
    )
    assert names(full) == [
        *("LabelProgram", "AdjustOomScore", "JoinKeyring", "RaiseLimit"),
        *("SetScheduler", "SetIoPriority", "SetMemoryPolicy", "SetDomain", "SetUmask"),
        *("LimitCapabilities", "BecomeUser", "SetCapabilities", "ForbidNewPrivileges", "Confine"),
        *("SetLimit", "CloseOnExec", "FilterCalls"),
    ]


@pytest.mark.rule("K16")
def test_domain_before_filter() -> None:
    """The execution domain is set before the filter is there."""
    found = names(config(Linux(seccomp=FILTER, personality=Personality("LINUX32"))))
    assert found.index("SetDomain") < found.index("FilterCalls")


def test_every_operation_can_be_shown() -> None:
    """Each operation of a full plan describes itself in one line."""
    full = config(Linux(seccomp=FILTER), Landlock(4, bind_tcp=(80,), handle_tcp=True), capabilities=Capabilities())
    lines = [each.describe() for each in plan_security(full, HOST, CONTAINER)]
    assert all(line and "\n" not in line for line in lines)
    assert "become user 0, group 0, no further groups" in lines


def test_right_for_the_filter_is_kept_until_it_is_there() -> None:
    """Without no_new_privs CAP_SYS_ADMIN stays for Landlock and the filter, and goes with the last of them."""
    asked = Capabilities()
    plan = plan_security(config(Linux(seccomp=FILTER), capabilities=asked), HOST, CONTAINER)
    (sets,) = [each for each in plan if isinstance(each, SetCapabilities)]
    assert sets.kept == 1 << 21
    assert names(config(landlock=Landlock(1), capabilities=asked))[-1] == "FinishCapabilities"
    plain = plan_security(config(Linux(seccomp=FILTER), capabilities=asked, no_new_privileges=True), HOST, CONTAINER)
    assert [each.kept for each in plain if isinstance(each, SetCapabilities)] == [0]


def inherit_what_is_bounding(capabilities: Capabilities) -> int:
    """The wrong variant: what engines call the default set is inheritable too."""
    return mask_of(capabilities.bounding)[0]


def inherit_what_is_asked(capabilities: Capabilities) -> int:
    """The inheritable set of the plan."""
    plan = plan_security(config(capabilities=capabilities), HOST, CONTAINER)
    (sets,) = [each for each in plan if isinstance(each, SetCapabilities)]
    return sets.inheritable


@pytest.mark.rule("K7", ours=inherit_what_is_asked, wrong=inherit_what_is_bounding, raises=AssertionError)
def test_inheritable_is_what_is_asked(subject) -> None:  # type: ignore[no-untyped-def]
    """The inheritable set is empty unless the configuration names it."""
    assert subject(Capabilities(bounding=("CAP_KILL",), permitted=("CAP_KILL",))) == 0
    assert subject(Capabilities(bounding=("CAP_KILL",), inheritable=("CAP_KILL",))) == 1 << 5


def test_sets_are_those_of_the_configuration() -> None:
    """Each of the five sets goes to its place, unknown names to none, nor what can't be ambient."""
    raw = "CAP_NET_RAW"
    asked = Capabilities(
        ("CAP_CHOWN", "CAP_FLY"), ("CAP_KILL",), ("CAP_SETUID", raw), ("CAP_SETGID", raw), (raw, "CAP_SETUID")
    )
    plan = plan_security(config(capabilities=asked), HOST, CONTAINER)
    assert LimitCapabilities(1 << 0) in plan
    assert SetCapabilities(1 << 13, 1 << 5, 1 << 13 | 1 << 7, 0, 1 << 13 | 1 << 6) in plan


def test_names_and_masks() -> None:
    """Masks have names, and for people a short form."""
    assert names_of(mask_of(("CAP_KILL", "CAP_CHOWN"))[0]) == ("CAP_CHOWN", "CAP_KILL")
    assert [shown(each) for each in (0, 33, (1 << 41) - 1)] == ["none", "chown kill", "all"]
    with pytest.raises(LookupError, match="SetCapabilities comes first"):
        finish(Site())
    with pytest.raises(LookupError, match="SetCapabilities comes first"):
        FinishCapabilities().do(Site())


def user_by_prefix(text: str) -> int:
    """The wrong variant: what begins as no number becomes 0, as strtol without a check of its end has it."""
    digits = ""
    for letter in text:
        if not letter.isdigit():
            break
        digits += letter
    return int(digits or "0") & 0xFFFFFFFF


def user_as_planned(text: str) -> int:
    """The uid of the plan, from the text of a command line."""
    uid, _ = parse_user(text)
    plan = plan_security(config(user=User(uid)), HOST, CONTAINER)
    (become,) = [each for each in plan if isinstance(each, BecomeUser)]
    return become.uid


@pytest.mark.rule("K6", ours=user_as_planned, wrong=user_by_prefix, raises=AssertionError)
def test_user_is_taken_as_it_is_or_not_at_all(subject) -> None:  # type: ignore[no-untyped-def]
    """0, 1 and 4294967294 are those users; what is no number, or means "leave it", is an error and never root."""
    assert [subject(each) for each in ("0", "1", "4294967294")] == [0, 1, 4294967294]
    for text in ("root1", "", "1x", "-1", "4294967295", "4294967296"):
        try:
            found = subject(text)
        except (ValueError, UsageError):
            continue
        raise AssertionError(f"{text!r} was taken for user {found}")


def test_ids_that_mean_leave_it() -> None:
    """A group or further group of 4294967295 is an error of the plan as well."""
    for user in (User(0, 2**32 - 1), User(0, 0, None, (4, 2**32 - 1))):
        with pytest.raises(ValueError, match="4294967295 is no id"):
            plan_security(config(user=user), HOST, CONTAINER)


def test_user_by_name_is_looked_up_in_the_container() -> None:
    """A user by name is looked up in the root stage, and its result is who the process becomes."""
    plan = plan_security(config(user=User(lookup="bob:staff")), HOST, CONTAINER)
    assert [
        (type(each).__name__, each.stage) for each in plan if type(each).__name__ in ("FindUser", "BecomeUser")
    ] == [
        ("FindUser", "root"),
        ("BecomeUser", "final"),
    ]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"selinux_label": "a:b:c:d"}, "process.selinuxLabel: selinux is not on here"),
        ({"rlimits": (Rlimit("RLIMIT_X", 1, 1),)}, "no limit 'RLIMIT_X'"),
        ({"rlimits": (Rlimit("RLIMIT_AS", 1, 1),) * 2}, "stands there twice"),
        ({"scheduler": Scheduler("SCHED_X")}, "no scheduling policy 'SCHED_X'"),
        ({"scheduler": Scheduler("SCHED_FIFO", nice=3)}, "nice"),
        ({"scheduler": Scheduler("SCHED_BATCH", priority=3)}, "priority"),
        ({"scheduler": Scheduler("SCHED_RR", runtime=3)}, "SCHED_DEADLINE alone"),
        ({"scheduler": Scheduler("SCHED_OTHER", flags=("SCHED_FLAG_X",))}, "no scheduling flag"),
        ({"io_priority": IoPriority("IOPRIO_CLASS_RT", 8)}, "8 is not 0 to 7"),
        ({"io_priority": IoPriority("RT")}, "no I/O class"),
        ({"linux": Linux(personality=Personality("LINUX64"))}, "no execution domain"),
        ({"linux": Linux(personality=Personality("LINUX", ("X",)))}, "no flag is known"),
        ({"linux": Linux(memory_policy=MemoryPolicy("MPOL_BIND"))}, "needs one"),
        ({"linux": Linux(memory_policy=MemoryPolicy("MPOL_LOCAL", "0"))}, "takes none"),
        ({"linux": Linux(memory_policy=MemoryPolicy("MPOL_BIND", "0", ("X",)))}, "no flag of memory policies"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(how: dict[str, object], told: str) -> None:
    """A name that nobody knows, or a value where none belongs, is an error of the plan."""
    with pytest.raises(ValueError, match=told):
        plan_security(config(**how), HOST, CONTAINER)  # type: ignore[arg-type]


def test_label_where_the_module_is_off() -> None:
    """A profile where AppArmor is off is an error that lists what is on; unconfined asks for nothing there."""
    with pytest.raises(ValueError, match=r"apparmor is not on here \(security modules: capability\)"):
        plan_security(config(apparmor_profile="kp"), Host(security_modules=("capability",)), CONTAINER)
    plan = plan_security(config(apparmor_profile="unconfined"), Host(), CONTAINER)
    assert not any(isinstance(each, LabelProgram) for each in plan)


@pytest.mark.rule("K2")
def test_only_the_exact_word_is_unconfined() -> None:
    """A profile whose name begins as the word unconfined is not taken for it."""
    texts = ("unconfined\n", "unconfined_app (enforce)\n", "a (b) (kill)", "kp (complain)\0")
    assert [parse_current(each) for each in texts] == [
        ("unconfined", ""),
        ("unconfined_app", "enforce"),
        ("a (b)", "kill"),
        ("kp", "complain"),
    ]


def test_affinity_is_of_exec_alone() -> None:
    """The CPUs of a final list hold a process of exec, and not the first one."""
    process = {"exec_cpu_affinity": ExecCpuAffinity(initial="1", final="0-1,3")}
    entering = names(config(**process), Container("kp", is_exec=True))  # type: ignore[arg-type]
    assert entering.index("BindRuntime") < entering.index("ReleaseRuntime") < entering.index("SetAffinity")
    assert "SetAffinity" in names(config(**process), Container("kp", is_exec=True))  # type: ignore[arg-type]
    assert "SetAffinity" not in names(config(**process))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "1-", "-1", "3-1", "a", "0,,1", "4096", "0-9999999999"])
def test_list_that_is_none(text: str) -> None:
    """A list of CPUs or nodes that is none is an error that names the part."""
    with pytest.raises(ValueError, match=r"neither a number|no range"):
        parse_list(text)


def test_lists() -> None:
    """A list of numbers and ranges, in any order, with blanks, twice the same."""
    assert parse_list("7, 0-2,2") == (0, 1, 2, 7)


def test_a_user_namespace_has_its_limits_from_outside() -> None:
    """What only CAP_SYS_RESOURCE over the host may do is done by the runtime, where it has that."""
    process = Process("/", ("true",), rlimits=(Rlimit("RLIMIT_NOFILE", 9, 5),), oom_score_adj=-5)
    config = Config("1.3.0", process=process, linux=Linux(namespaces=(Namespace("user"),)))
    outside = {type(one).__name__: one for one in plan_security(config, Host(), Container(new_keyring=False))}
    assert (outside["RaiseLimitOutside"].stage, outside["AdjustOomScoreOutside"].stage) == ("host", "host")
    assert "from outside" in outside["RaiseLimitOutside"].describe()
    rootless = {type(one).__name__ for one in plan_security(config, Host(capabilities=0), Container(new_keyring=False))}
    assert {"RaiseLimit", "AdjustOomScore"} <= rootless
