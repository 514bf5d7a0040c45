"""Words of `needs`: what they mean, who answers for them, and which machine profile has them.

A *kernel* need (a config option, a controller) may be absent: the statement is then not applicable. A *machine* need
(a command, a disc) is the profile's duty: absent, the test is broken. One entry of `needs` may join words with
" and " and " or ", " and " binding closer; all of them must be of one kind.

Only the words live here, as data both sides read. The probes, one a word, are in `needs`, inside the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

KERNEL, MACHINE = "kernel", "machine"

# word -> (kind, profile that provides it or None)
_WORDS = {
    "block-device": (MACHINE, "disk"),
    "swap": (MACHINE, "disk"),
    "huge-pages": (MACHINE, "disk"),
    "power-cut": (MACHINE, "disk"),
    "xattr-filesystem": (MACHINE, None),
    "initial-ramfs": (MACHINE, "bare"),
    "libsystemd": (MACHINE, "systemd"),
    "nss-systemd": (MACHINE, "systemd"),
    "pam_nologin": (MACHINE, None),
    "cgroup-v1": (KERNEL, None),
    "cgroup-v2": (KERNEL, None),
    "nsdelegate": (KERNEL, None),
    "pidfs": (KERNEL, None),
    "idmapped-tmpfs": (KERNEL, None),
    "trusted-xattr": (KERNEL, None),
}

# Capabilities without CAP_; their numbers are their places, include/uapi/linux/capability.h.
# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)
# fmt: on

# prefix -> (kind, form of the rest)
_FAMILIES = {
    "CONFIG_": (KERNEL, re.compile(r"[A-Z0-9_]+")),
    "CAP_": (MACHINE, re.compile("|".join(CAPABILITIES))),
    "cgroup-v1:": (KERNEL, re.compile(r"[a-z_]+")),
    "cgroup-v2:": (KERNEL, re.compile(r"[a-z_]+")),
    "cpus:": (MACHINE, re.compile(r"[1-9][0-9]{0,3}")),
    "command:": (MACHINE, re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")),
    "boot:": (MACHINE, re.compile(r"[^\s]+")),
    "boot-without-lsm:": (MACHINE, re.compile(r"[a-z]+")),
}

# What a profile is needed for although the word's family says nothing.
_PROFILES = {
    **dict.fromkeys(("command:podman", "command:runc", "command:crun", "command:busybox"), "runtimes"),
    **dict.fromkeys(("command:newuidmap", "command:newgidmap", "command:nologin"), "runtimes"),
    **dict.fromkeys(("command:userdbctl", "command:homectl"), "systemd"),
    **dict.fromkeys(("boot:cgroup_no_v1=named", "boot-without-lsm:landlock"), "bare"),
}

_REAL_TIME_PROFILES = frozenset({"systemd"})
_PLAIN = "plain"


class Requirement(NamedTuple):
    """One entry of `needs`.

    Args:
        text: As the catalogue spells it.
        kind: `KERNEL` or `MACHINE`.
        alternatives: It is met when all words of one alternative are.
    """

    text: str
    kind: str
    alternatives: tuple[tuple[str, ...], ...]


def parse_requirement(text: str) -> Requirement:
    """Parse one entry of `needs`.

    Raises:
        ValueError: A word is unknown or malformed, or kernel and machine words are mixed.
    """
    alternatives = tuple(tuple(part.split(" and ")) for part in text.split(" or "))
    kinds = {_kind(word) for alternative in alternatives for word in alternative}
    if len(kinds) > 1:
        raise ValueError(f"needs {text!r} mixes what the kernel has with what the machine has; make two entries of it")
    return Requirement(text, kinds.pop(), alternatives)


def _kind(word: str) -> str:
    if word in _WORDS:
        return _WORDS[word][0]
    for prefix, (kind, rest) in _FAMILIES.items():
        if word.startswith(prefix):
            if rest.fullmatch(word.removeprefix(prefix)):
                return kind
            raise ValueError(f"needs word {word!r}: what follows {prefix!r} is malformed")
    known = ", ".join([*_WORDS, *(f"{prefix}…" for prefix in _FAMILIES)])
    raise ValueError(f"needs word {word!r} is unknown; known are {known}")


def profile_for(requirements: Iterable[Requirement]) -> str:
    """Return the profile that has what a statement needs: "plain" when nothing special is needed.

    Raises:
        ValueError: The needs point to more than one profile.
    """
    words = {word for requirement in requirements for word in requirement.alternatives[0]}
    profiles = sorted({profile for word in words if (profile := _profile_of(word)) is not None})
    if len(profiles) > 1:
        raise ValueError(f"needs point to the profiles {' and '.join(profiles)}")
    return profiles[0] if profiles else _PLAIN


def _profile_of(word: str) -> str | None:
    if word in _WORDS:
        return _WORDS[word][1]
    if word.startswith("command:systemd-"):
        return "systemd"
    return _PROFILES.get(word)


def time_for(profile: str) -> str:
    """Return which clock a profile's machine runs by: "virtual", or "real" where an init system watches it."""
    return "real" if profile in _REAL_TIME_PROFILES else "virtual"
