"""Which layer would refuse a path, a system call or a port, and why: answered from the configuration, nothing is run.

    for reason in explain_path(config, "/etc/shadow", "write_file"):
        print(reason.layer, reason.verdict, reason.why)

An answer speaks of the layers that the configuration has: file permissions, the program's own limits and what the
kernel refuses anybody are not among them.
"""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.security.actions import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    MOST_DATA,
    NOTIFY,
    TRACE,
    TRAP,
)
from kernelproof.impl.libcontainer.security.architectures import ARCHITECTURES, native_architecture
from kernelproof.impl.libcontainer.security.bpf import Call, run
from kernelproof.impl.libcontainer.security.capabilities import mask_of, shown
from kernelproof.impl.libcontainer.security.landlock import FILE_RIGHTS, PORT_RIGHTS, handled_rights, is_below
from kernelproof.impl.libcontainer.security.seccomp import compile_seccomp

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.impl.libcontainer.config.records import Config

ALLOWED, DENIED, ANSWERED = "allowed", "denied", "answered by another process"
_VERBS = {
    ALLOW: (ALLOWED, "is allowed"),
    LOG: (ALLOWED, "is allowed and logged"),
    TRAP: (DENIED, "raises SIGSYS"),
    KILL_PROCESS: (DENIED, "kills the process"),
    KILL_THREAD: (DENIED, "kills the thread"),
    NOTIFY: (ANSWERED, "is handed to the seccomp agent"),
    TRACE: (ANSWERED, "is handed to a tracer, and without one fails with ENOSYS"),
}
_WRITING = ("write_file", "truncate", "make_reg", "make_dir", "make_sym", "make_sock", "make_fifo", "remove_file")

# System calls that the kernel grants with a capability only; capabilities(7).
_NEEDED = {
    "mount": "CAP_SYS_ADMIN",
    "umount2": "CAP_SYS_ADMIN",
    "pivot_root": "CAP_SYS_ADMIN",
    "setns": "CAP_SYS_ADMIN",
    "swapon": "CAP_SYS_ADMIN",
    "chroot": "CAP_SYS_CHROOT",
    "reboot": "CAP_SYS_BOOT",
    "init_module": "CAP_SYS_MODULE",
    "finit_module": "CAP_SYS_MODULE",
    "delete_module": "CAP_SYS_MODULE",
    "clock_settime": "CAP_SYS_TIME",
    "settimeofday": "CAP_SYS_TIME",
    "sethostname": "CAP_SYS_ADMIN",
    "iopl": "CAP_SYS_RAWIO",
    "ioperm": "CAP_SYS_RAWIO",
    "acct": "CAP_SYS_PACCT",
    "vhangup": "CAP_SYS_TTY_CONFIG",
}


class Reason:
    """What one layer says.

    Attributes:
        layer: seccomp, Landlock, capabilities, mounts or namespaces.
        verdict: ALLOWED, DENIED or ANSWERED.
        why: the sentence, with the place in the configuration.
    """

    __slots__ = ("layer", "verdict", "why")

    def __init__(self, layer: str, verdict: str, why: str) -> None:
        self.layer = layer
        self.verdict = verdict
        self.why = why

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reason) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash(self.values())

    def __repr__(self) -> str:
        return f"Reason{self.values()}"

    def values(self) -> tuple[str, str, str]:
        """Layer, verdict and sentence."""
        return self.layer, self.verdict, self.why


def explain_call(config: Config, name: str, *arguments: int, architecture: str = "") -> tuple[Reason, ...]:
    """Say what becomes of a system call.

    Args:
        config: the configuration.
        name: of the call.
        arguments: as many as matter; the others are 0.
        architecture: such as SCMP_ARCH_X86; default: this machine's own.

    Raises:
        LookupError: the machine has no call of that name, or is unknown.
        ValueError: the filter can't be compiled.
    """
    machine = ARCHITECTURES[architecture] if architecture else native_architecture()
    if name not in machine.numbers():
        raise LookupError(f"{machine.name} has no system call {name!r}")
    return tuple(_explain_call(config, name, Call(machine.audit, machine.numbers()[name], arguments), machine.little))


def _explain_call(config: Config, name: str, call: Call, little: bool) -> Iterator[Reason]:
    policy = config.linux.seccomp
    if policy is not None:
        action, _ = run(compile_seccomp(policy).words, call, little=little)
        named = [place for place, rule in enumerate(policy.syscalls) if name in rule.names]
        where = f"named in linux.seccomp.syscalls{named}" if named else "not named: the default action"
        if action & ~MOST_DATA == ERRNO:
            verdict, verb = DENIED, f"fails with {_errno_name(action & MOST_DATA)}"
        else:
            verdict, verb = _VERBS[action & ~MOST_DATA if action & ~MOST_DATA == TRACE else action]
        yield Reason("seccomp", verdict, f"{name} {verb} ({where})")
    needed = _NEEDED.get(name)
    capabilities = config.process.granted() if config.process is not None else None
    if needed is not None and capabilities is not None:
        has = needed in capabilities.effective or needed in capabilities.ambient
        sets = shown(mask_of(capabilities.effective)[0])
        why = f"{name} needs {needed}; process.capabilities.effective: {sets}"
        yield Reason("capabilities", ALLOWED if has else DENIED, why)
    files = config.landlock is not None and handled_rights(config.landlock)
    if name in ("mount", "umount2", "pivot_root", "move_mount") and files:
        yield Reason("Landlock", DENIED, f"{name} is refused to who is under a policy for files")


def _errno_name(number: int) -> str:
    import errno  # only for this sentence

    return errno.errorcode.get(number, str(number))


def explain_path(config: Config, path: str, right: str = "read_file") -> tuple[Reason, ...]:
    """Say what becomes of an access to a path of the container.

    Args:
        config: the configuration.
        path: absolute, as the program sees it; links are not followed, as nothing is read.
        right: one of Landlock's for files, such as read_file, write_file, execute, make_reg.

    Raises:
        ValueError: the path is not absolute, or there is no such right.
    """
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not absolute")
    if right not in FILE_RIGHTS:
        raise ValueError(f"there is no right {right!r}; known: {', '.join(FILE_RIGHTS)}")
    return tuple(_explain_path(config, os.path.normpath(path), right))


def _explain_path(config: Config, path: str, right: str) -> Iterator[Reason]:
    for masked in config.linux.masked_paths:
        if is_below(path, masked):
            yield Reason("mounts", DENIED, f"linux.maskedPaths hides {masked}: what is read there is empty")
    if right in _WRITING:
        yield from _explain_writing(config, path)
    policy = config.landlock
    if policy is None or right not in handled_rights(policy):
        return
    allowing = [each.path for each in policy.paths if right in each.rights and is_below(path, each.path)]
    if allowing:
        yield Reason("Landlock", ALLOWED, f"{right} is allowed below {', '.join(allowing)}")
    else:
        yield Reason("Landlock", DENIED, f"{right} is handled, and no path above {path} allows it: EACCES")


def _explain_writing(config: Config, path: str) -> Iterator[Reason]:
    for fixed in config.linux.readonly_paths:
        if is_below(path, fixed):
            yield Reason("mounts", DENIED, f"linux.readonlyPaths has {fixed}: EROFS")
    mounts = [each for each in config.mounts if is_below(path, each.destination)]
    last = max(mounts, key=lambda each: len(os.path.normpath(each.destination)), default=None)
    if last is not None:
        words = [option for option in last.options if option in ("ro", "rw", "rro", "rrw")]
        if words and words[-1] in ("ro", "rro"):
            yield Reason("mounts", DENIED, f"the mount at {last.destination} is {words[-1]}: EROFS")
    elif config.root is not None and config.root.readonly:
        yield Reason("mounts", DENIED, "root.readonly, and nothing is mounted above the path: EROFS")


def explain_port(config: Config, port: int, right: str = "connect_tcp") -> tuple[Reason, ...]:
    """Say what becomes of binding a TCP socket to a port (`bind_tcp`), or connecting to one (`connect_tcp`).

    Raises:
        ValueError: no port, or there is no such right.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is no port: 0 to 65535 are")
    if right not in PORT_RIGHTS:
        raise ValueError(f"there is no right {right!r}; known: {', '.join(PORT_RIGHTS)}")
    return tuple(_explain_port(config, port, right))


def _explain_port(config: Config, port: int, right: str) -> Iterator[Reason]:
    policy = config.landlock
    if policy is not None and (policy.handle_tcp or policy.bind_tcp or policy.connect_tcp):
        allowed = port in (policy.bind_tcp if right == "bind_tcp" else policy.connect_tcp)
        why = f"landlock.{right} {'has' if allowed else 'does not have'} {port}"
        yield Reason("Landlock", ALLOWED if allowed else DENIED, why if allowed else f"{why}: EACCES")
    kinds = {each.type: each for each in config.linux.namespaces}
    network = kinds.get("network")
    if network is not None and not network.path and not config.networks and right == "connect_tcp":
        yield Reason(
            "namespaces", DENIED, "a network namespace of its own without networks: nothing but itself is there"
        )
    capabilities = config.process.granted() if config.process is not None else None
    if right == "bind_tcp" and 0 < port < 1024 and capabilities is not None:
        has = "CAP_NET_BIND_SERVICE" in capabilities.effective
        why = f"ports below 1024 need CAP_NET_BIND_SERVICE, unless net.ipv4.ip_unprivileged_port_start is lower: {port}"
        yield Reason("capabilities", ALLOWED if has else DENIED, why)
