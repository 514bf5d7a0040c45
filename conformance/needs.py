"""Probes, inside a machine: is there what a statement needs? One probe a word, each with its reason.

Every probe asks the kernel or the machine by use or by its own data, never by version number. None leaves a trace that
a test could meet, but for modules: what a config option has as a module is loaded, as the statement is about it.

NotApplicable   a kernel need is absent: the statement says nothing about this kernel
MachineLacks    a machine need is absent: the profile is wrong, the test is broken
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable

from kernelproof.conformance.needs_config import KernelConfig, MachineLacks, Paths
from kernelproof.conformance.needs_filesystems import (
    file_capabilities_missing,
    idmapped_tmpfs_missing,
    trusted_xattr_missing,
    v1_controller_missing,
    v2_controller_missing,
)
from kernelproof.conformance.requirements import CAPABILITIES, KERNEL, Requirement, parse_requirement

__all__ = ["MachineLacks", "NotApplicable", "Paths", "Probes"]


class NotApplicable(Exception):
    """The kernel lacks something."""


class Probes:
    """Answers for words of `needs` in the machine it runs in.

    Args:
        paths: Where data is looked for.
        profile: The machine's profile, for what only the host can know.
        is_machine: Whether this is one: a host without machines may lack a capability.
    """

    def __init__(self, paths: Paths | None = None, *, profile: str = "plain", is_machine: bool = True) -> None:
        self._paths = paths or Paths()
        self._profile = profile
        self._is_machine = is_machine
        self._config = KernelConfig(self._paths)

    def read_config(self) -> bytes:
        """Return the kernel's configuration; read once.

        Raises:
            MachineLacks: Neither the config file nor /proc/config.gz is there.
        """
        return self._config.read()

    def check(self, needs: Iterable[str]) -> None:
        """Make sure of everything a test needs.

        Raises:
            NotApplicable: A kernel need is absent; the text is the reason.
            MachineLacks: A machine need is absent; the text is reason and remedy.
        """
        for text in needs:
            requirement = parse_requirement(text)
            reason = self._reason(requirement)
            if reason and (requirement.kind == KERNEL or self._may_lack(requirement)):
                raise NotApplicable(reason)
            if reason:
                remedy = "choose a profile that has it: @pytest.mark.machine(profile=…)"
                raise MachineLacks(f"needs {text}: {reason}; {remedy}")

    def _may_lack(self, requirement: Requirement) -> bool:
        words = [word for alternative in requirement.alternatives for word in alternative]
        return not self._is_machine and all(word.startswith("CAP_") for word in words)

    def _reason(self, requirement: Requirement) -> str | None:
        reasons = []
        for words in requirement.alternatives:
            absent = next((reason for word in words if (reason := self._absent(word))), None)
            if absent is None:
                return None
            reasons.append(absent)
        return "; ".join(reasons)

    def _absent(self, word: str) -> str | None:
        if word in _PROBES:
            return _PROBES[word](self, "")
        for prefix, probe in _FAMILIES.items():
            if word.startswith(prefix):
                return probe(self, word.removeprefix(prefix))
        raise LookupError(f"no probe for the needs word {word!r}; add it to kernelproof/conformance/needs.py")

    # --- the kernel; its controllers and file systems are asked for in `needs_filesystems` ---

    def config(self, option: str) -> str | None:
        """A kernel option is built in, or a module, which is loaded then. Returns what is missing, or None."""
        return self._config.missing(option)

    def nsdelegate(self, _rest: str) -> str | None:
        """The unified hierarchy can be mounted with nsdelegate. Returns what is missing, or None."""
        if "nsdelegate" in self._paths.read("sys/kernel/cgroup/features").split():
            return None
        return "/sys/kernel/cgroup/features does not list nsdelegate"

    def pidfs(self, _rest: str) -> str | None:
        """Descriptors of processes are on a filesystem of their own. Returns what is missing, or None."""
        # Without a filesystem of their own pidfds share the anonymous inode with every other such descriptor.
        pidfd, other = os.pidfd_open(os.getpid()), os.eventfd(0)
        try:
            same = os.fstat(pidfd).st_dev == os.fstat(other).st_dev
        finally:
            os.close(pidfd)
            os.close(other)
        return "a pidfd has no inode of its own" if same else None

    # --- the machine ---

    def command(self, name: str) -> str | None:
        """A command is in the machine. Returns what is missing, or None."""
        return None if shutil.which(name) else f"there is no command {name}"

    def cpus(self, number: str) -> str | None:
        """The machine has so many CPUs. Returns what is missing, or None."""
        usable = len(os.sched_getaffinity(0))
        return None if usable >= int(number) else f"there are {usable} CPUs"

    def capability(self, name: str) -> str | None:
        """The test has a capability in its effective set. Returns what is missing, or None."""
        effective = self._paths.read("proc/self/status").partition("\nCapEff:")[2].partition("\n")[0]
        held = int(effective or "0", 16) >> CAPABILITIES.index(name) & 1
        return None if held else f"CAP_{name} is not in the effective set"

    def block_device(self, _rest: str) -> str | None:
        """The machine has a disc. Returns what is missing, or None."""
        folder = self._paths.root / "sys/block"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        if any(name.startswith(("vd", "sd", "nvme")) for name in names):
            return None
        return "there is no scratch disc (vd*, sd*, nvme*) in /sys/block"

    def swap(self, _rest: str) -> str | None:
        """The machine has swap. Returns what is missing, or None."""
        return None if len(self._paths.read("proc/swaps").splitlines()) > 1 else "/proc/swaps lists no swap area"

    def huge_pages(self, _rest: str) -> str | None:
        """The machine has huge pages. Returns what is missing, or None."""
        reserved = self._paths.read("proc/sys/vm/nr_hugepages").strip()
        return None if reserved not in ("", "0") else "vm.nr_hugepages reserves none"

    def power_cut(self, _rest: str) -> str | None:
        """The machine has a disc that loses what was not flushed. Returns what is missing, or None."""
        return None if self._profile == "disk" else f"profile {self._profile} has no disc that loses unflushed writes"

    def boot_word(self, word: str) -> str | None:
        """The kernel was started with a word. Returns what is missing, or None."""
        return None if word in self._boot_words() else f"{word} is not on the kernel command line"

    def boot_without_lsm(self, module: str) -> str | None:
        """The kernel was started without a security module. Returns what is missing, or None."""
        for word in self._boot_words():
            name, _, modules = word.partition("=")
            if name == "lsm":
                return f"lsm= has {module}" if module in modules.split(",") else None
        return "there is no lsm= on the kernel command line"

    def _boot_words(self) -> list[str]:
        return self._paths.read("proc/cmdline").split()

    def initial_ramfs(self, _rest: str) -> str | None:
        """The root directory is the initial ramfs. Returns what is missing, or None."""
        # Its mount is its own parent; whoever moved another mount over it sees that one's parent.
        for line in self._paths.read("proc/self/mountinfo").splitlines():
            mount_id, parent_id, _, _, mount_point, *rest = line.split()
            if mount_point == "/" and mount_id == parent_id and "rootfs" in rest:
                return None
        return "the root directory is not on the initial ramfs"

    def library(self, name: str) -> str | None:
        """A shared library is in the machine. Returns what is missing, or None."""
        folders = ("usr/lib", "lib", "usr/lib64", *self._multiarch())
        if any((self._paths.root / folder / name).exists() for folder in folders):
            return None
        return f"there is no {name}"

    def _multiarch(self) -> list[str]:
        return [str(path.relative_to(self._paths.root)) for path in self._paths.root.glob("usr/lib/*-linux-gnu*")]


_Probe = Callable[[Probes, str], str | None]

_PROBES: dict[str, _Probe] = {
    "block-device": Probes.block_device,
    "swap": Probes.swap,
    "huge-pages": Probes.huge_pages,
    "power-cut": Probes.power_cut,
    "xattr-filesystem": lambda _probes, _rest: file_capabilities_missing(),
    "initial-ramfs": Probes.initial_ramfs,
    "libsystemd": lambda probes, _rest: probes.library("libsystemd.so.0"),
    "nss-systemd": lambda probes, _rest: probes.library("libnss_systemd.so.2"),
    "pam_nologin": lambda probes, _rest: probes.library("security/pam_nologin.so"),
    "cgroup-v1": lambda _probes, _rest: v1_controller_missing(""),
    "cgroup-v2": lambda _probes, _rest: v2_controller_missing(""),
    "nsdelegate": Probes.nsdelegate,
    "pidfs": Probes.pidfs,
    "idmapped-tmpfs": lambda _probes, _rest: idmapped_tmpfs_missing(),
    "trusted-xattr": lambda _probes, _rest: trusted_xattr_missing(),
}

_FAMILIES: dict[str, _Probe] = {
    "CONFIG_": Probes.config,
    "CAP_": Probes.capability,
    "cgroup-v1:": lambda _probes, controller: v1_controller_missing(controller),
    "cgroup-v2:": lambda _probes, controller: v2_controller_missing(controller),
    "cpus:": Probes.cpus,
    "command:": Probes.command,
    "boot:": Probes.boot_word,
    "boot-without-lsm:": Probes.boot_without_lsm,
}
