"""Whether what a configuration says can hold together: pure, nothing is looked up on the host.

    check_config(config)          all of config.json
    check_process(process)        a `process` object alone, as exec takes it
    check_resources(resources)    a `linux.resources` object alone, as update takes it

Source: OCI runtime specification 1.3; where it leaves a choice, what runc 1.5 refuses.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.libcontainer.config.checking_linux import NAMESPACES, check_linux, check_mount_mappings
from kernelproof.impl.libcontainer.config.checking_resources import check_cpu_list, check_resources
from kernelproof.impl.libcontainer.config.findings import Findings

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import (
        Capabilities,
        Config,
        Hook,
        Hooks,
        Mount,
        Process,
        Scheduler,
        User,
    )

__all__ = ["Findings", "check_config", "check_process", "check_resources", "parse_version"]

NO_ID = 0xFFFFFFFF  # -1 to the system calls: leave it as it is
HOSTNAME_BYTES = 64  # HOST_NAME_MAX, sethostname(2)


def check_config(config: Config) -> Findings:
    """Everything that is wrong or odd in a configuration."""
    found = Findings()
    _version(config.oci_version, found)
    _root(config, found)
    if config.process is not None:
        check_process(config.process, found)
    for index, mount in enumerate(config.mounts):
        _mount(mount, f"$.mounts[{index}]", found)
    if config.hooks is not None:
        _hooks(config.hooks, found)
    for key, _ in config.annotations:
        if not key:
            found.wrong('$.annotations[""]', None, "an annotation's key can't be empty")
    _names_of_host(config, found)
    check_linux(config, found)
    return found


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The numbers of a semantic version, or None if it is none. Pre-release and build parts are allowed after them.

    Source: semver.org 2.0.0, 9 and 10.
    """
    core, plus, build = text.partition("+")
    core, minus, pre = core.partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or (plus and not _parts_hold(build)) or (minus and not _parts_hold(pre)):
        return None
    for number in numbers:
        if not (number.isascii() and number.isdigit()) or (number[0] == "0" and number != "0") or len(number) > 9:
            return None
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _parts_hold(text: str) -> bool:
    return all(part and part.isascii() and part.replace("-", "0").isalnum() for part in text.split("."))


def _version(text: str, found: Findings) -> None:
    numbers = parse_version(text)
    if numbers is None:
        found.wrong("$.ociVersion", text, "a semantic version is needed", "Write 1.3.0")
    elif numbers[0] > 1:
        found.wrong("$.ociVersion", text, "versions of the specification before 2 are known", "Write 1.3.0")


def _root(config: Config, found: Findings) -> None:
    root = config.root
    if root is None:
        found.wrong("$.root", None, "it is required on Linux", 'Add "root": {"path": "rootfs"}')
    elif not root.path:
        found.wrong("$.root.path", root.path, "a path is needed")
    elif not root.path.strip("/"):
        found.wrong("$.root.path", root.path, "the host's own root can't be a container's", "Name a directory below it")


def _names_of_host(config: Config, found: Findings) -> None:
    private = any(namespace.type == "uts" for namespace in config.linux.namespaces)
    for key, value in (("hostname", config.hostname), ("domainname", config.domainname)):
        if not value:
            continue
        if not private:
            remedy = 'Add {"type": "uts"} to linux.namespaces'
            rule = "it would be set for the host: there is no UTS namespace"
            found.wrong(f"$.{key}", value, rule, remedy, given=NAMESPACES)
        if len(value.encode()) > HOSTNAME_BYTES:
            found.wrong(f"$.{key}", value, f"the kernel takes at most {HOSTNAME_BYTES} bytes")


def check_process(process: Process, found: Findings | None = None, at: str = "$.process") -> Findings:
    """What is wrong or odd in a process, at a JSON path."""
    found = found or Findings()
    found.absolute(f"{at}.cwd", process.cwd)
    if not process.args:
        found.wrong(f"{at}.args", None, "at least the program is needed", 'Write "args": ["sh"]')
    elif not process.args[0]:
        found.wrong(f"{at}.args[0]", "", "the program's name is empty")
    _environment(process.env, f"{at}.env", found)
    _user(process.user, f"{at}.user", found)
    if process.capabilities is not None:
        _capabilities(process.capabilities, f"{at}.capabilities", found)
    _rlimits(process, at, found)
    if process.oom_score_adj is not None and not -1000 <= process.oom_score_adj <= 1000:
        found.wrong(f"{at}.oomScoreAdj", process.oom_score_adj, "it must be -1000 to 1000")
    _process_rare(process, at, found)
    return found


def _process_rare(process: Process, at: str, found: Findings) -> None:
    size = process.console_size
    if size is not None and process.terminal and not (size.height <= 0xFFFF and size.width <= 0xFFFF):
        found.wrong(
            f"{at}.consoleSize", f"{size.height} x {size.width}", "a terminal has at most 65535 lines and columns"
        )
    if process.scheduler is not None:
        _scheduler(process.scheduler, f"{at}.scheduler", found)
    if process.io_priority is not None:
        found.one_of(f"{at}.ioPriority.class", process.io_priority.class_, names.IO_CLASSES, "class")
        level = process.io_priority.priority
        if level is not None and not 0 <= level <= 7:
            found.wrong(f"{at}.ioPriority.priority", level, "it must be 0 to 7")
    if process.exec_cpu_affinity is not None:
        for key, cpus in process.exec_cpu_affinity.set_fields():
            if isinstance(cpus, str):
                check_cpu_list(cpus, f"{at}.execCPUAffinity.{key}", found)


def _environment(entries: tuple[str, ...], at: str, found: Findings) -> None:
    for index, entry in enumerate(entries):
        if entry.find("=") < 1:
            found.wrong(f"{at}[{index}]", entry, "an entry is NAME=value", "Write NAME= for an empty value")


def _user(user: User, at: str, found: Findings) -> None:
    for key, value in (("uid", user.uid), ("gid", user.gid)):
        if value == NO_ID:
            found.wrong(f"{at}.{key}", value, "this number means no change to the kernel and can't be an ID")
    for index, value in enumerate(user.additional_gids):
        if value == NO_ID:
            found.wrong(f"{at}.additionalGids[{index}]", value, "this number can't be an ID")
    if user.umask is not None and user.umask > 0o777:
        found.wrong(
            f"{at}.umask", user.umask, "it must be 0 to 511 (octal 0777)", "JSON has no octal numbers: 022 is 18"
        )


def _capabilities(capabilities: Capabilities, at: str, found: Findings) -> None:
    for key, given in capabilities.set_fields():
        assert isinstance(given, tuple)
        for index, name in enumerate(given):
            if name not in names.CAPABILITIES:
                found.odd(f"{at}.{key}[{index}]", name, "no capability of this name is known; it is not granted")
    permitted = set(capabilities.permitted)
    for index, name in enumerate(capabilities.effective):
        if name not in permitted and name in names.CAPABILITIES:
            found.odd(
                f"{at}.effective[{index}]", name, "it is not in permitted and can't be effective; it is not granted"
            )
    raised = permitted & set(capabilities.inheritable)
    lost = [name for name in capabilities.ambient if name not in raised and name in names.CAPABILITIES]
    if lost:  # one sentence: the configuration that `runc spec` writes has three of them
        rule = "an ambient capability must be permitted and inheritable; what is not is not granted"
        found.odd(f"{at}.ambient", " ".join(lost), rule)


def _rlimits(process: Process, at: str, found: Findings) -> None:
    seen: set[str] = set()
    for index, limit in enumerate(process.rlimits):
        where = f"{at}.rlimits[{index}]"
        found.one_of(f"{where}.type", limit.type, names.RLIMITS, "limit")
        if limit.type in seen:
            found.wrong(f"{where}.type", limit.type, "the limit stands twice in the list", "Keep one of them")
        seen.add(limit.type)
        if limit.soft > limit.hard:
            rule = f"it is above the hard limit ({limit.hard})"
            found.wrong(f"{where}.soft", limit.soft, rule, given=(f"{where}.hard",))


def _scheduler(scheduler: Scheduler, at: str, found: Findings) -> None:
    policy = scheduler.policy
    found.one_of(f"{at}.policy", policy, names.SCHEDULER_POLICIES, "policy")
    for index, flag in enumerate(scheduler.flags):
        found.one_of(f"{at}.flags[{index}]", flag, names.SCHEDULER_FLAGS, "flag")
    if scheduler.nice and policy not in ("SCHED_OTHER", "SCHED_BATCH"):
        found.wrong(f"{at}.nice", scheduler.nice, f"{policy} has no nice value", given=(f"{at}.policy",))
    elif scheduler.nice is not None and not -20 <= scheduler.nice <= 19:
        found.wrong(f"{at}.nice", scheduler.nice, "it must be -20 to 19")
    if scheduler.priority and policy not in ("SCHED_FIFO", "SCHED_RR"):
        found.wrong(f"{at}.priority", scheduler.priority, f"{policy} has no priority", given=(f"{at}.policy",))
    elif scheduler.priority is not None and not 0 <= scheduler.priority <= 99:
        found.wrong(f"{at}.priority", scheduler.priority, "it must be 0 to 99")
    _deadline(scheduler, at, found)


def _deadline(scheduler: Scheduler, at: str, found: Findings) -> None:
    times = (scheduler.runtime or 0, scheduler.deadline or 0, scheduler.period or 0)
    if scheduler.policy != "SCHED_DEADLINE":
        for key, value in zip(("runtime", "deadline", "period"), times, strict=True):
            if value:
                rule = f"only SCHED_DEADLINE has it, not {scheduler.policy}"
                found.wrong(f"{at}.{key}", value, rule, given=(f"{at}.policy",))
        return
    runtime, deadline, period = times
    if not 0 < runtime <= deadline <= (period or deadline):
        shown = f"{runtime}, {deadline}, {period}"
        found.wrong(at, shown, "SCHED_DEADLINE needs 0 < runtime <= deadline <= period", "sched(7), SCHED_DEADLINE")


def _mount(mount: Mount, at: str, found: Findings) -> None:
    if not mount.destination:
        found.wrong(f"{at}.destination", "", "a path is needed")
    elif not mount.destination.startswith("/"):
        found.odd(f"{at}.destination", mount.destination, "it is not absolute; it is taken from /")
    bind = "bind" in mount.options or "rbind" in mount.options
    options = (f"{at}.options",)
    if bind and not mount.source:
        found.wrong(f"{at}.source", mount.source, "a bind mount needs a source", given=options)
    elif not bind and not mount.type and "remount" not in mount.options:
        rule = "a type is needed unless it is a bind mount"
        found.wrong(f"{at}.type", mount.type, rule, 'Add "rbind" to the options', given=options)
    if "tmpcopyup" in mount.options and (bind or mount.type != "tmpfs"):
        rule = "only a tmpfs can begin with a copy of what it covers"
        found.wrong(f"{at}.options", "tmpcopyup", rule, given=(f"{at}.type",))
    _mount_options(mount, bind, at, found)
    if mount.uid_mappings or mount.gid_mappings or "idmap" in mount.options or "ridmap" in mount.options:
        check_mount_mappings(mount, bind, at, found)


def _mount_options(mount: Mount, bind: bool, at: str, found: Findings) -> None:
    for index, option in enumerate(mount.options):
        if option in _KNOWN or not option:
            continue
        if bind:
            rule = "a bind mount takes no options of a filesystem"
            found.wrong(f"{at}.options[{index}]", option, rule, "Set it where the filesystem is mounted")
        elif "," in option and option.partition(",")[0] in _KNOWN:
            found.odd(f"{at}.options[{index}]", option, "several options in one text go to the filesystem as they are")


_KNOWN = frozenset((*names.MOUNT_FLAGS, *names.MOUNT_RECURSIVE, *names.MOUNT_EXTENSIONS, *names.PROPAGATIONS))


def _hooks(hooks: Hooks, found: Findings) -> None:
    for key, kind in zip(names.HOOKS, hooks.values(), strict=True):
        assert isinstance(kind, tuple)
        for index, hook in enumerate(kind):
            _hook(hook, f"$.hooks.{key}[{index}]", found)
    if hooks.prestart:
        found.odd("$.hooks.prestart", None, "prestart hooks are deprecated", "Use createRuntime")


def _hook(hook: Hook, at: str, found: Findings) -> None:
    found.absolute(f"{at}.path", hook.path)
    if hook.timeout is not None and hook.timeout <= 0:
        found.wrong(f"{at}.timeout", hook.timeout, "seconds, at least 1", "Leave it out for no limit")
    _environment(hook.env or (), f"{at}.env", found)
