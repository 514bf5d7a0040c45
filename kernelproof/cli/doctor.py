"""`kernelproof doctor`: is everything there that machines need, and what to do where it is not."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

from kernelproof.cli import own_kernel
from kernelproof.cli.tables import print_rows
from kernelproof.vm.apt_settings import read_apt_settings
from kernelproof.vm.cache import default_cache_root
from kernelproof.vm.distribution import read_distribution
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.forkable import why_not
from kernelproof.vm.kernel_select import read_rows
from kernelproof.vm.memory import read_available
from kernelproof.vm.profiles import find_profile
from kernelproof.vm.provision_qemu import NAME, OLDEST, PACKAGE, plan_qemu, read_version

COLUMNS = ("state", "check", "seen", "remedy")
CACHE_BYTES = 2_000_000_000  # a kernel, its root and template, with room for what is fetched on the way
MIB = 1 << 20


class Facts(NamedTuple):
    """What this machine has."""

    system: str  # Linux
    processor: str  # x86_64
    is_root: bool
    qemu: tuple[int, int, int] | ProvisionError | None  # its version, or why that could not be asked
    apt: bool
    apt_problem: ProvisionError | None
    cache: Path
    cache_writable: bool
    cache_free_bytes: int
    memory_bytes: int
    memory_needed_bytes: int
    kvm: str  # usable, refused or absent
    distribution: str  # Debian
    tried: bool  # whether that one was ever tried
    forks: str  # why machines can't be forked here; empty if they can


class Check(NamedTuple):
    """One thing that was looked at; `state` is ok, missing, or note for what stops nothing."""

    state: str
    check: str
    seen: str
    remedy: str


def judge(facts: Facts) -> tuple[Check, ...]:
    """Every check, in the order in which a run would meet them."""
    return (
        _judge_host(facts),
        _judge_qemu(facts),
        _judge_apt(facts),
        _judge_cache(facts),
        _judge_memory(facts),
        _judge_kvm(facts),
        _judge_forks(facts),
    )


def _report(check: str, problem: ProvisionError) -> Check:
    return Check("missing", check, f"{problem.subject}: {problem.detail}", problem.remedy)


def _judge_host(facts: Facts) -> Check:
    fits = (facts.system, facts.processor) == ("Linux", "x86_64")
    seen = f"{facts.system} on {facts.processor}"
    return Check("ok" if fits else "missing", "host", seen, "" if fits else "run on Linux on x86-64")


def _judge_qemu(facts: Facts) -> Check:
    if isinstance(facts.qemu, ProvisionError):
        return _report("qemu", facts.qemu)
    seen = ".".join(map(str, facts.qemu)) if facts.qemu else "none"
    oldest = ".".join(map(str, OLDEST[:2]))
    ways = {
        "system": ("ok", seen, ""),
        "install": ("note", f"{seen}; apt-get will install {PACKAGE}", ""),
        "cache": ("note", f"{seen}; {PACKAGE} will be unpacked into the cache", ""),
        "give-up": ("missing", seen, f"install QEMU {oldest} or later for x86-64 guests"),
    }
    state, words, remedy = ways[plan_qemu(facts.qemu, is_root=facts.is_root, has_apt=facts.apt)]
    return Check(state, "qemu", words, remedy)


def _judge_apt(facts: Facts) -> Check:
    if facts.apt_problem is not None:
        return _report("packages", facts.apt_problem)
    if not facts.tried:
        seen = f"apt and dpkg-deb of {facts.distribution}, which nobody has tried yet: tell us how it went"
        return Check("note", "packages", seen, "")
    return Check("ok", "packages", f"apt, dpkg-deb and the keyring of {facts.distribution}", "")


def _judge_cache(facts: Facts) -> Check:
    seen = f"{facts.cache}, {facts.cache_free_bytes / 1e9:.1f} GB free"
    if not facts.cache_writable:
        return Check(
            "missing", "cache", f"{facts.cache} can't be written to", "set KERNELPROOF_CACHE to another folder"
        )
    if facts.cache_free_bytes < CACHE_BYTES:
        remedy = f"free {CACHE_BYTES / 1e9:.0f} GB, or set KERNELPROOF_CACHE to another folder"
        return Check("missing", "cache", seen, remedy)
    return Check("ok", "cache", seen, "")


def _judge_memory(facts: Facts) -> Check:
    seen = f"{facts.memory_bytes // MIB} MiB given, {facts.memory_needed_bytes // MIB} MiB needed by one machine"
    enough = facts.memory_bytes >= facts.memory_needed_bytes
    return Check("ok" if enough else "missing", "memory", seen, "" if enough else "end other programs, or add memory")


def _judge_kvm(facts: Facts) -> Check:
    words = {
        "usable": "/dev/kvm can be opened; the first run proves it by a boot, or goes without",
        "refused": "/dev/kvm can't be opened by this user: emulation",
        "absent": "no /dev/kvm: emulation",
    }
    return Check("note", "kvm", words[facts.kvm], "")


def _judge_forks(facts: Facts) -> Check:
    if facts.forks:
        remedy = (
            "let processes trace their children: ptrace(2), kernel.yama.ptrace_scope below 2; take a QEMU of Debian"
        )
        return Check("note", "forks", f"{facts.forks}: a short test takes five times as long", remedy)
    return Check("ok", "forks", "a machine that stands still can be forked", "")


def nearest_folder(path: Path) -> Path:
    """The path itself, or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def read_kvm(path: Path = Path("/dev/kvm")) -> str:
    """Whether the device could be used: usable, refused or absent."""
    if not path.exists():
        return "absent"
    return "usable" if os.access(path, os.R_OK | os.W_OK) else "refused"


def read_qemu() -> tuple[int, int, int] | ProvisionError | None:
    """The version of the system's QEMU, or why it did not say one; None if there is none."""
    path = shutil.which(NAME)
    if path is None:
        return None
    try:
        return read_version(Path(path))
    except ProvisionError as error:
        return error


def read_forks(program: str | None = None) -> str:
    """Why machines of the system's QEMU can't be forked from one that is stopped; empty if they can."""
    return why_not(os.path.realpath(program or shutil.which(NAME) or "/bin/true"))


def read_apt_problem() -> ProvisionError | None:
    """What keeps packages from being fetched, as far as can be seen without network."""
    try:
        read_apt_settings()
    except ProvisionError as error:
        return error
    return None


def read_facts() -> Facts:
    """Look at this machine."""
    cache = default_cache_root()
    beside = nearest_folder(cache)
    return Facts(
        system=platform.system(),
        processor=platform.machine(),
        is_root=os.geteuid() == 0,
        qemu=read_qemu(),
        apt=shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None,
        apt_problem=read_apt_problem(),
        cache=cache,
        cache_writable=os.access(beside, os.W_OK),
        cache_free_bytes=shutil.disk_usage(beside).free,
        memory_bytes=read_available(),
        memory_needed_bytes=2 * find_profile("plain").memory_mib * MIB,
        kvm=read_kvm(),
        distribution=read_distribution().about,
        tried=read_rows().tried,
        forks=read_forks(),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--json`, and a kernel of one's own."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    own_kernel.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print every check, or those of a kernel of one's own; status 1 if something is missing."""
    if arguments.kernel_image or arguments.kernel_tree or arguments.modules:
        rows, telling = own_kernel.run(arguments)
        print_rows(rows if arguments.json else telling, own_kernel.COLUMNS, as_json=arguments.json)
        return 1 if any(row["state"] == "missing" for row in rows) else 0
    checks = judge(read_facts())
    print_rows([check._asdict() for check in checks], COLUMNS, as_json=arguments.json)
    return 1 if any(check.state == "missing" for check in checks) else 0
