"""What helps when the kernel refuses an operation for a reason that its error number does not say.

Who raises an error and knows more says so itself, by a Remedy among its notes. This is asked for the others, when
something has failed and not before.

Source: user_namespaces(7) and namespaces(7), "The /proc/sys/user directory"; landlock(7); keyrings(7); setrlimit(2).
"""

from __future__ import annotations

import errno

_OPEN_FILES = "Raise the limit of open files (RLIMIT_NOFILE; ulimit -n)"
_BY_NUMBER = {errno.EMFILE: _OPEN_FILES, errno.ENFILE: "Raise fs.file-max"}
_MAKING = ("MakeProcess", "MakeProcessByScout", "MakeNamespaces")
_LIMITS = "/proc/sys/user"
_KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_SYS_ADMIN = 1 << 21


def find_remedy(call: str, number: int) -> str:
    """What helps against an error of an operation, as a sentence without its full stop; empty if nobody knows.

    Args:
        call: the operation's name.
        number: the kernel's error number.
    """
    if number == errno.ENOSPC and call in _MAKING:
        return too_many_namespaces()
    if number == errno.EPERM and call == "IsolateMounts" and may_administrate():
        return (
            "CAP_SYS_ADMIN is held, and mounts are refused all the same: a Landlock domain that this was started in "
            "does that, and a filter of system calls could. Start it outside of that"
        )
    if number == errno.EDQUOT and call == "JoinKeyring":
        return "Raise kernel.keys.maxkeys, for root kernel.keys.root_maxkeys, or make no keyring (--no-new-keyring)"
    return _BY_NUMBER.get(number, "")


def too_many_namespaces(limits: str = _LIMITS) -> str:
    """Which limit of namespaces is at nought; all of them if none is."""
    names = []
    for kind in _KINDS:
        try:
            with open(f"{limits}/max_{kind}_namespaces", encoding="ascii") as file:
                if int(file.read()) == 0:
                    names.append(f"user.max_{kind}_namespaces")
        except (OSError, ValueError):
            continue
    if names:
        return f"Raise {', '.join(names)}, which forbids any"
    return "Raise the limit of namespaces (user.max_*_namespaces); user and PID namespaces can be 32 deep at most"


def may_administrate() -> bool:
    """Whether this process has CAP_SYS_ADMIN in its user namespace."""
    from kernelproof.impl._syscalls.capabilities import capget  # only an error asks

    return bool(capget()[0] & _SYS_ADMIN)
