"""Whether the filter of system calls can be made: names, errnos, the listener.

Source: OCI runtime specification 1.3, config-linux.md, "Seccomp"; seccomp(2); seccomp_unotify(2).
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config import names

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.findings import Findings
    from kernelproof.impl.libcontainer.config.records import Seccomp, SeccompRule

NOTIFY = "SCMP_ACT_NOTIFY"
MOST_ERRNO = 4095  # MAX_ERRNO: the kernel cuts larger ones down to it
ARGUMENTS = 6


def check_seccomp(seccomp: Seccomp, found: Findings, at: str = "$.linux.seccomp") -> None:
    """What is wrong in a filter, at a JSON path."""
    found.one_of(f"{at}.defaultAction", seccomp.default_action, names.SECCOMP_ACTIONS, "action")
    _errno(seccomp.default_errno_ret, seccomp.default_action, at, ("defaultErrnoRet", "defaultAction"), found)
    for index, name in enumerate(seccomp.architectures):
        found.one_of(f"{at}.architectures[{index}]", name, names.SECCOMP_ARCHITECTURES, "architecture")
    for index, flag in enumerate(seccomp.flags or ()):
        found.one_of(f"{at}.flags[{index}]", flag, names.SECCOMP_FLAGS, "flag")
    for index, rule in enumerate(seccomp.syscalls):
        _rule(rule, f"{at}.syscalls[{index}]", found)
    _listener(seccomp, at, found)


def _errno(value: int | None, action: str, at: str, keys: tuple[str, str], found: Findings) -> None:
    if value is None:
        return
    path, given = f"{at}.{keys[0]}", (f"{at}.{keys[1]}",)
    if action not in names.SECCOMP_ACTIONS_WITH_ERRNO:
        rule = f"{action} has no errno; SCMP_ACT_ERRNO and SCMP_ACT_TRACE have one"
        found.wrong(path, value, rule, "Remove it", given=given)
    most = MOST_ERRNO if action == "SCMP_ACT_ERRNO" else 0xFFFF
    if value > most:
        found.wrong(path, value, f"it must be 0 to {most}")


def _rule(rule: SeccompRule, at: str, found: Findings) -> None:
    if not rule.names:
        found.wrong(f"{at}.names", rule.names, "at least one system call is needed")
    if rule.action not in names.SECCOMP_ACTIONS:
        found.one_of(f"{at}.action", rule.action, names.SECCOMP_ACTIONS, "action")
    if rule.errno_ret is not None:
        _errno(rule.errno_ret, rule.action, at, ("errnoRet", "action"), found)
    for index, argument in enumerate(rule.args):
        where = f"{at}.args[{index}]"
        if argument.index >= ARGUMENTS:
            found.wrong(f"{where}.index", argument.index, f"a system call has {ARGUMENTS} arguments: 0 to 5")
        found.one_of(f"{where}.op", argument.op, names.SECCOMP_OPERATORS, "operator")


def _listener(seccomp: Seccomp, at: str, found: Findings) -> None:
    if seccomp.default_action == NOTIFY:
        rule = "the start itself would wait for the listener's answer"
        found.wrong(f"{at}.defaultAction", NOTIFY, rule, "Notify of single system calls")
    notified = [index for index, rule in enumerate(seccomp.syscalls) if rule.action == NOTIFY]
    for index in notified:
        if "write" in seccomp.syscalls[index].names and not seccomp.syscalls[index].args:
            rule = "the start itself would wait for the listener's answer at its first write"
            where = f"{at}.syscalls[{index}]"
            found.wrong(f"{where}.names", "write", rule, "Take write out", given=(f"{where}.args", f"{where}.action"))
    if notified and not seccomp.listener_path:
        found.wrong(f"{at}.listenerPath", None, "SCMP_ACT_NOTIFY needs a listener", "Name its unix socket")
    if seccomp.listener_metadata and not seccomp.listener_path:
        rule = "there is no listener to send it to"
        found.wrong(f"{at}.listenerMetadata", seccomp.listener_metadata, rule, given=(f"{at}.listenerPath",))
    flags = seccomp.flags or ()
    if notified and "SECCOMP_FILTER_FLAG_TSYNC" in flags:
        found.wrong(f"{at}.flags", "SECCOMP_FILTER_FLAG_TSYNC", "it can't go together with a listener", "Remove it")
    if not notified and "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in flags:
        rule, given = "without a listener the kernel refuses it", (f"{at}.syscalls",)
        found.wrong(f"{at}.flags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", rule, given=given)
