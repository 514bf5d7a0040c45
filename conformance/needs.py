"""Probes, inside a machine: is there what a statement needs? One probe a word, each with its reason.

Every probe asks the kernel or the machine by use or by its own data, never by version number. None leaves a trace that
a test could meet, but for modules: what a config option has as a module is loaded, as the statement is about it.

NotApplicable   a kernel need is absent: the statement says nothing about this kernel
MachineLacks    a machine need is absent: the profile is wrong, the test is broken
"""

from __future__ import annotations

import gzip
import os
import platform
import re
import shutil
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from kernelproof.conformance import kernel_calls
from kernelproof.conformance.requirements import CAPABILITIES, KERNEL, Requirement, parse_requirement


class NotApplicable(Exception):
    """The kernel lacks something."""


class MachineLacks(Exception):
    """The machine lacks something that its profile should have."""


class Paths(NamedTuple):
    """Where the guest's data is looked for."""

    root: Path = Path("/")

    @property
    def config(self) -> Path:
        """The config file that provisioning lays into the guest."""
        return self.root / "boot" / f"config-{platform.release()}"

    @property
    def modules(self) -> Path:
        """The folder of the running kernel's modules."""
        return self.root / "lib/modules" / platform.release()

    def read(self, path: str) -> str:
        """Return a file of /proc or /sys; empty where it is not there."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="backslashreplace")
        except OSError:
            return ""


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
        self._config: bytes | None = None

    def read_config(self) -> bytes:
        """Return the kernel's configuration; read once.

        Raises:
            MachineLacks: Neither the config file nor /proc/config.gz is there.
        """
        if self._config is None:
            self._config = b"\n" + self._find_config()
        return self._config

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

    # --- the kernel's configuration ---

    def _find_config(self) -> bytes:
        with suppress(FileNotFoundError):
            return self._paths.config.read_bytes()
        with suppress(FileNotFoundError), gzip.open(self._paths.root / "proc/config.gz") as file:
            return file.read()
        raise MachineLacks(
            f"needs the kernel's configuration: there is no {self._paths.config} and no /proc/config.gz; "
            "provision the kernel with its config file, or build it with CONFIG_IKCONFIG_PROC=y"
        )

    def config(self, option: str) -> str | None:
        """A kernel option is built in, or a module, which is loaded then. Returns what is missing, or None."""
        # No pattern: compiling one costs a new machine more than all the rest of a probe.
        line = f"\nCONFIG_{option}=".encode()
        place = self.read_config().find(line) + len(line)
        if place < len(line):
            return f"the kernel is built without CONFIG_{option}"
        return self._load(option) if self.read_config()[place : place + 2] == b"m\n" else None

    def _load(self, option: str) -> str | None:
        name = _MODULES.get(option, option.lower())
        # The kernel verifies a signature before it sees that the module is there: 0.2 s in an emulated machine.
        if (self._paths.root / "sys/module" / name).exists():
            return None
        chain = self._module_chain(option, name)
        for path in reversed(chain):  # what it depends on comes after it in modules.dep
            try:
                self._load_file(path)
            except FileExistsError:
                continue
            except OSError as error:
                raise MachineLacks(f"needs CONFIG_{option}: its module {path} can't be loaded: {error}") from error
        return None

    def _load_file(self, path: Path) -> None:
        if path.suffix == ".ko":
            kernel_calls.load_module(path.read_bytes())
            return
        name = path.name.partition(".")[0]
        done = subprocess.run(["modprobe", name], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise OSError(None, done.stderr.strip() or f"modprobe {name} ended with {done.returncode}")

    def _module_chain(self, option: str, name: str) -> list[Path]:
        try:
            listed = (self._paths.modules / "modules.dep").read_bytes()
        except OSError as error:
            raise MachineLacks(f"needs CONFIG_{option}, a module: {error}; run depmod for the guest's root") from error
        pattern = rb"(?m)^(\S*/" + name.encode().replace(b"_", b"[_-]") + rb"\.ko(?:\.[a-z]+)?):(.*)$"
        match = re.search(pattern, listed)
        if match is None:
            raise MachineLacks(
                f"needs CONFIG_{option}: modules.dep lists no module {name!r}; "
                "name it in kernelproof/conformance/needs.py if it is called otherwise"
            )
        return [self._paths.modules / part.decode() for part in (match[1], *match[2].split())]

    # --- control groups ---

    def cgroup_v1(self, controller: str) -> str | None:
        """Control groups of version 1, with a controller if one is named. Returns what is missing, or None."""
        # The last step, which would make a hierarchy, is left out: a hierarchy goes away late and would be in the way.
        try:
            context = kernel_calls.open_filesystem("cgroup")
        except OSError as error:
            return f"no control groups version 1: {error.strerror}"
        try:
            if controller:
                kernel_calls.set_flag(context, controller)
        except OSError as error:
            return f"the kernel offers no version 1 controller {controller}: {error.strerror}"
        finally:
            os.close(context)
        return None

    def cgroup_v2(self, controller: str) -> str | None:
        """Control groups of version 2, with a controller if one is named. Returns what is missing, or None."""
        try:
            controllers = _unified_controllers()
        except OSError as error:
            return f"no control groups version 2: {error.strerror}"
        if controller and controller not in controllers:
            return f"cgroup.controllers has no {controller}, only {' '.join(controllers) or 'nothing'}"
        return None

    def nsdelegate(self, _rest: str) -> str | None:
        """The unified hierarchy can be mounted with nsdelegate. Returns what is missing, or None."""
        if "nsdelegate" in self._paths.read("sys/kernel/cgroup/features").split():
            return None
        return "/sys/kernel/cgroup/features does not list nsdelegate"

    # --- other parts of the kernel ---

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

    def trusted_xattr(self, _rest: str) -> str | None:
        """The test's filesystem keeps attributes of the class trusted. Returns what is missing, or None."""
        return _xattr_refused("trusted.kernelproof", b"1")

    def idmapped_tmpfs(self, _rest: str) -> str | None:
        """A mount of tmpfs can have an ID map. Returns what is missing, or None."""
        context = kernel_calls.open_filesystem("tmpfs")
        try:
            return _mapping_refused(context)
        finally:
            os.close(context)

    # --- the machine ---

    def xattr_filesystem(self, _rest: str) -> str | None:
        """The test's filesystem keeps file capabilities (security.capability). Returns what is missing, or None."""
        return _xattr_refused("security.capability", _NO_CAPABILITIES)

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


def _unified_controllers() -> list[str]:
    context = kernel_calls.open_filesystem("cgroup2")
    try:
        mount = kernel_calls.detached_mount(context)
    finally:
        os.close(context)
    try:
        descriptor = os.open("cgroup.controllers", os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)
    with open(descriptor, encoding="ascii") as file:
        return file.read().split()


def _xattr_refused(name: str, value: bytes) -> str | None:
    with TemporaryFile() as file:
        try:
            os.setxattr(file.fileno(), name, value)
        except OSError as error:
            return f"{name} can't be set in the folder for temporary files: {error.strerror}"
    return None


def _mapping_refused(context: int) -> str | None:
    mount = kernel_calls.detached_mount(context)
    reader, writer = os.pipe()
    with warnings.catch_warnings():  # a thread of faulthandler's holds no lock that the child would want
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _hold_user_namespace(reader, writer)
    os.close(writer)
    try:
        ready = os.read(reader, 1) == b"1"
        if not ready:
            return "no user namespace could be made"
        userns = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel_calls.map_ids(mount, userns)
        finally:
            os.close(userns)
    except OSError as error:
        return f"the IDs of a tmpfs mount can't be mapped: {error.strerror}"
    finally:
        os.close(reader)
        os.close(mount)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return None


def _hold_user_namespace(reader: int, writer: int) -> None:
    os.close(reader)
    try:
        os.unshare(os.CLONE_NEWUSER)  # type: ignore[attr-defined]  # Python 3.12; the guest has a newer one
        for name, text in (("uid_map", "0 0 1"), ("setgroups", "deny"), ("gid_map", "0 0 1")):
            Path("/proc/self", name).write_text(text, encoding="ascii")
        os.write(writer, b"1")
        signal.pause()
    finally:
        os._exit(1)


# Modules that are not called like their option.
_MODULES = {"EXT4_FS": "ext4", "OVERLAY_FS": "overlay", "VLAN_8021Q": "8021q", "VSOCKETS": "vsock"}

# vfs_cap_data of version 2 without a capability in it
_NO_CAPABILITIES = b"\x00\x00\x00\x02" + bytes(16)

_Probe = Callable[[Probes, str], str | None]

_PROBES: dict[str, _Probe] = {
    "block-device": Probes.block_device,
    "swap": Probes.swap,
    "huge-pages": Probes.huge_pages,
    "power-cut": Probes.power_cut,
    "xattr-filesystem": Probes.xattr_filesystem,
    "initial-ramfs": Probes.initial_ramfs,
    "libsystemd": lambda probes, _rest: probes.library("libsystemd.so.0"),
    "nss-systemd": lambda probes, _rest: probes.library("libnss_systemd.so.2"),
    "pam_nologin": lambda probes, _rest: probes.library("security/pam_nologin.so"),
    "cgroup-v1": Probes.cgroup_v1,
    "cgroup-v2": Probes.cgroup_v2,
    "nsdelegate": Probes.nsdelegate,
    "pidfs": Probes.pidfs,
    "idmapped-tmpfs": Probes.idmapped_tmpfs,
    "trusted-xattr": Probes.trusted_xattr,
}

_FAMILIES: dict[str, _Probe] = {
    "CONFIG_": Probes.config,
    "CAP_": Probes.capability,
    "cgroup-v1:": Probes.cgroup_v1,
    "cgroup-v2:": Probes.cgroup_v2,
    "cpus:": Probes.cpus,
    "command:": Probes.command,
    "boot:": Probes.boot_word,
    "boot-without-lsm:": Probes.boot_without_lsm,
}
