"""Makes the guest's user land: packages of a distribution as one uncompressed archive.

The archive has no kernel modules, no `/init` and no agent: those are archives of their own behind it.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from kernelproof.vm.apt import Apt
from kernelproof.vm.cpio import Member, make_character_device, make_directory, make_file, make_link, write_newc
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_tools import Tools, compile_python, describe_packages
from kernelproof.vm.provision_types import Root
from kernelproof.vm.provision_unpack import Tree, read_packages

RECIPE = 2  # raised when what is made of the same packages changes
PACKAGES = (
    # The shape of the system: nothing of it is a dependency of anything.
    *("base-files", "base-passwd", "libc-bin", "dash", "coreutils", "grep", "sed", "findutils", "tar", "gzip"),
    *("diffutils", "hostname", "debianutils", "mount", "util-linux", "procps", "passwd", "kmod", "busybox-static"),
    # What tests run and observe with.
    *("python3", "python3-minimal", "iproute2", "sqlite3", "strace"),
)
_SHARE = (
    *("doc", "man", "locale", "info", "lintian", "bash-completion", "zoneinfo", "bug", "debconf", "perl5"),
    *("common-licenses", "i18n", "gcc", "gdb", "doc-base", "menu", "pixmaps", "applications", "dpkg"),
)
_PYTHON = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data")
_DROPPED = (
    *(f"usr/share/{name}/" for name in _SHARE),
    *("var/lib/apt/", "var/lib/dpkg/", "var/cache/", "boot/", "usr/lib/apt/", "etc/apt/", "etc/cron"),
    *("usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/udev/hwdb.d/"),
    *("usr/lib/udev/", "usr/lib/valgrind/"),
)
_SYSTEMD = ("usr/lib/systemd/", "usr/lib/tmpfiles.d/", "usr/lib/sysusers.d/")  # of no use under another init


def is_wanted(path: str, *, systemd: bool = False) -> bool:
    """Whether a path of a package goes into the guest: no documents, translations, package state.

    Args:
        path: Without a leading slash.
        systemd: Whether the guest has systemd as init.
    """
    parts = path.split("/")
    if len(parts) > 3 and parts[:2] == ["usr", "lib"] and parts[2].startswith("python3.") and parts[3] in _PYTHON:
        return False
    return not f"{path}/".startswith(_DROPPED if systemd else (*_DROPPED, *_SYSTEMD))


def plan_packages(packages: Sequence[str]) -> list[str]:
    """All packages that a root with `packages` is asked for."""
    return sorted({*PACKAGES, *packages})


def plan_root_request(packages: Sequence[str], suites: Sequence[str], tools: str) -> dict[str, object]:
    """What a root with `packages` is asked for by; `tools` is their digest."""
    return {"packages": plan_packages(packages), "suites": suites, "recipe": RECIPE, "tools": tools}


def provide_root(context: Provisioning, tools: Tools, packages: Sequence[str]) -> Root:
    """The user land with `packages` beside those of every guest, from the cache or made.

    Raises:
        ProvisionError: packages could not be had or unpacked.
    """
    wanted = plan_packages(packages)

    def make(apt: Apt) -> str:
        found = apt.resolve(apt.update(context.suites), wanted)
        names = [f"{package.name}={package.version}" for package in found]
        record = {"packages": describe_packages(found), "recipe": RECIPE, "tools": tools.digest}
        return context.build("root", record, lambda work: build(work, apt.fetch(found), names))

    def build(work: Path, debs: Sequence[Path], names: Sequence[str]) -> None:
        context.progress.step("build guest root")
        _build(work, debs, tools, names, systemd="systemd" in wanted)

    request = plan_root_request(packages, context.suites, tools.digest)
    entry = context.provide("root", request, make)
    facts = json.loads((entry.folder / "facts.json").read_text("utf-8"))
    return Root(entry.folder / "root.cpio", entry.digest, facts["python"], tuple(facts["packages"]))


def _build(work: Path, debs: Sequence[Path], tools: Tools, names: Iterable[str], *, systemd: bool) -> None:
    tree = read_packages(debs, partial(is_wanted, systemd=systemd))
    complete(tree, systemd=systemd)
    compile_python(tree, tools, work, "usr/lib/python3")
    with (work / "root.cpio").open("wb") as file:
        write_newc(file, tree.members())
    facts = {"python": tools.python, "packages": sorted(names)}
    (work / "facts.json").write_text(json.dumps(facts), "utf-8")


def complete(tree: Tree, *, systemd: bool = False) -> None:
    """Add what maintainer scripts would have made: accounts, links, mount points, the first device nodes.

    Args:
        tree: The unpacked packages.
        systemd: Whether the guest has systemd as init: its services are enabled, and its names looked up.
    """
    tree.add(make_directory("."))  # else the root is as open as /tmp
    for name in ("bin", "sbin", "lib", "lib64"):
        tree.add(make_link(name, f"usr/{name}"))
    for path in ("dev", "etc", "home", "mnt", "newroot", "opt", "proc", "run", "srv", "sys", "var/lib", "var/log"):
        tree.add_missing(make_directory(path))
    tree.add(make_directory("root", 0o700))
    for path in ("tmp", "var/tmp"):
        tree.add(make_directory(path, 0o1777))
    for path, target in (*_LINKS, *(_SYSTEMD_LINKS if systemd else ())):
        tree.add_missing(make_link(path, target))
    tree.add(make_character_device("dev/console", 5, 1))
    tree.add(make_character_device("dev/null", 1, 3, 0o666))
    for path, text in (*(_SYSTEMD_FILES if systemd else ()), *_FILES):
        tree.add_missing(make_file(path, text.encode("ascii")))
    _add_accounts(tree)


_LINKS = (
    ("usr/bin/sh", "dash"),
    ("usr/bin/awk", "mawk"),
    ("var/run", "/run"),
    ("var/lock", "/run/lock"),
    ("etc/mtab", "../proc/self/mounts"),
)
_UNITS = "etc/systemd/system"
_SYSTEMD_LINKS = (
    (f"{_UNITS}/dbus-org.freedesktop.home1.service", "/usr/lib/systemd/system/systemd-homed.service"),
    (f"{_UNITS}/multi-user.target.wants/systemd-homed.service", "/usr/lib/systemd/system/systemd-homed.service"),
    (f"{_UNITS}/sockets.target.wants/systemd-userdbd.socket", "/usr/lib/systemd/system/systemd-userdbd.socket"),
)
_NAMES = "files [SUCCESS=merge] systemd"
_SYSTEMD_FILES = (
    ("etc/nsswitch.conf", f"passwd: files systemd\ngroup: {_NAMES}\nshadow: files systemd\nhosts: files\n"),
)
_FILES = (
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/hostname", "guest\n"),
    ("etc/resolv.conf", ""),
    ("etc/fstab", ""),
    ("etc/environment", ""),
)


def _add_accounts(tree: Tree) -> None:
    # The masters, with passwords in the shadow files and a shell for root that is there.
    shell = b"/bin/bash" if "usr/bin/bash" in tree else b"/bin/sh"
    for name, shadow, rest in (("passwd", "shadow", ":20000:0:99999:7:::"), ("group", "gshadow", "::")):
        master = f"usr/share/base-passwd/{name}.master"
        if master not in tree:
            continue
        text = tree[master].data.replace(b":*:", b":x:").replace(b"/bin/bash", shell)
        tree.add_missing(make_file(f"etc/{name}", text))
        names = [line.partition(b":")[0].decode("ascii") for line in text.splitlines()]
        lines = "".join(f"{account}:*{rest}\n" for account in names)
        tree.add_missing(Member(f"etc/{shadow}", stat.S_IFREG | 0o640, lines.encode("ascii"), gid=_SHADOW))


_SHADOW = 42  # the group of that name in group.master
