"""PID 1 of a machine: leaves the initial rootfs, mounts, loads modules, forks the agent, reaps; no service manager.

It mounts no cgroup hierarchy: the test chooses v1 or v2. When the agent ends it says so on the console and powers off,
so that the host learns of it at once.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kernelproof.vm.guest import agent
from kernelproof.vm.guest.boot_words import BOOT_FAILED, NO_CONSOLE
from kernelproof.vm.guest.frames import AGENT_DIED
from kernelproof.vm.guest.mounting import mount

PROFILE = Path("/usr/lib/kernelproof-agent/profile.json")
SYSTEMD = "/usr/lib/systemd/systemd"

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}

_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_BIND, _MOVE = 4096, 8192

# (source, target, fstype, flags, data), in the order in which one needs the other.
MOUNTS = (
    ("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC, None),
    ("sysfs", "/sys", "sysfs", _NOSUID | _NODEV | _NOEXEC, None),
    ("devtmpfs", "/dev", "devtmpfs", _NOSUID, "mode=0755"),
    ("devpts", "/dev/pts", "devpts", _NOSUID | _NOEXEC, "gid=5,mode=0620,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV, "mode=1777"),
    ("tmpfs", "/run", "tmpfs", _NOSUID | _NODEV, "mode=0755"),
    ("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "mode=1777"),
)

# The way to the host; built in since 6.12, modules before. There is no udev that would load them.
PORT_MODULES = ("virtio_pci", "virtio_console")
PORTS = Path("/sys/class/virtio-ports")

# The host's random numbers. Without them whoever first asks for some keeps the kernel busy collecting its own, which
# takes as many timer interrupts as it wants bits: 1.7 billion instructions, a quarter of a boot.
RANDOM_MODULE = "virtio_rng"

# What devtmpfs leaves to user space.
DEVICE_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)

# A panic (the host's NMI at a deadline is one) shows all tasks. Warnings and worse reach the console, and all that an
# oops or a panic says; what is less stays in the kernel's buffer, because each line costs a clone some milliseconds.
# Of each row the first that this kernel has is written: (path below /proc/sys, text).
SYSCTLS = (
    (("kernel/unknown_nmi_panic", "1"),),
    (("kernel/panic_sys_info", "tasks"), ("kernel/panic_print", "1")),
    (("kernel/printk", "5"),),
)

# Housekeeping that would wake up in the middle of a sleeping test, and copy some thousand pages of every clone. Its
# periods are long enough to be never; what it does on demand is as ever. (path, text), where the kernel has it.
QUIET = (
    ("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "100000000"),
    ("/proc/sys/vm/compaction_proactiveness", "0"),
)

_POWER_OFF = 0x4321FEDC
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_UEVENT_PROTOCOL = 15
_UEVENT_GROUP = 1

_libc = ctypes.CDLL(None, use_errno=True)


def leave_initial_rootfs() -> None:
    """Make a bind mount of the initial rootfs the root: pivot_root(2) refuses to leave the initial one before Linux 7.

    Raises:
        OSError: as mount(2) and chroot(2) refuse.
    """
    os.makedirs("/newroot", exist_ok=True)
    mount("/", "/newroot", None, _BIND)
    os.chdir("/newroot")
    mount(".", "/", None, _MOVE)
    os.chroot(".")
    os.chdir("/")
    os.rmdir("/newroot")


def prepare(profile: Mapping[str, Any]) -> tuple[str, ...]:
    """Mount, load modules, bring the loopback up, do what the profile says; returns the modules that this kernel lacks.

    Args:
        profile: As the host wrote it: `init`, `modules`, `settings` and `commands` are used here.

    Raises:
        OSError: a mount or a write failed.
        subprocess.CalledProcessError: a command failed.
    """
    if profile["init"] != "agent-on-initial-ramfs":
        leave_initial_rootfs()
    for source, target, fstype, flags, data in MOUNTS:
        os.makedirs(target, exist_ok=True)
        mount(source, target, fstype, flags, data)
    for link, target in DEVICE_LINKS:
        os.symlink(target, link)
    socket.sethostname("kernelproof")
    set_link_up("lo")
    return set_up(profile)


def set_link_up(name: str) -> None:
    """Set a link's IFF_UP by ioctl, netdevice(7): a program that does it costs a boot 0.1 s of its loader.

    Raises:
        OSError: as ioctl(2) refuses; ENODEV: there is none.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16s24x", name.encode()))
        flags = struct.unpack_from("H", request, 16)[0] | _IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags))


def set_up(profile: Mapping[str, Any]) -> tuple[str, ...]:
    """What every init has to do for the agent and the profile: all of `prepare` that is not a matter of init's.

    Raises:
        As `prepare`, and LookupError: the kernel has no virtio console, so no way to the host.
    """
    subprocess.run(["modprobe", "-q", "-a", *PORT_MODULES], check=False)  # they may be built in, or not known by name
    if not PORTS.is_dir():
        raise LookupError(NO_CONSOLE)
    seed_kernel()
    missing = load_modules(profile["modules"])
    _apply_sysctls()
    for path, text in QUIET:
        if os.path.exists(path):
            Path(path).write_text(text)
    link_discs()
    for path, text in profile["settings"]:
        Path("/proc/sys", path).write_text(text)
    for command in profile["commands"]:
        subprocess.run(command, check=True)
    return missing


def seed_kernel() -> None:
    """Let the kernel take the host's random numbers once, where it has the driver; each clone gets others anyway.

    The driver is not left loaded: its thread would ask the host again and again.
    """
    if subprocess.call(["modprobe", "-q", RANDOM_MODULE]) == 0:
        os.getrandom(1)
        subprocess.call(["modprobe", "-q", "-r", RANDOM_MODULE])


def load_modules(modules: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Load kernel modules, each a name and its parameters; returns the names of those that this kernel lacks.

    One program loads all that have no parameters: each start of it costs a boot 0.1 s. Only where that fails is each
    tried alone.
    """
    bare = [module[0] for module in modules if len(module) == 1]
    if not bare or subprocess.call(["modprobe", "-q", "-a", "--", *bare]) == 0:
        modules = [module for module in modules if len(module) > 1]
    return tuple(module[0] for module in modules if subprocess.call(["modprobe", "-q", "--", *module]) != 0)


def link_discs(blocks: Path = Path("/sys/block"), links: Path = Path("/dev/disc")) -> None:
    """Make `/dev/disc/NAME` for every virtio disc that the host named.

    Raises:
        OSError: as mkdir(2) and symlink(2) refuse.
    """
    for serial in sorted(blocks.glob("*/serial")):
        if name := serial.read_text().strip():
            links.mkdir(exist_ok=True)
            (links / name).symlink_to(f"../{serial.parent.name}")


def _apply_sysctls(root: Path = Path("/proc/sys")) -> None:
    for row in SYSCTLS:
        for path, text in row:
            if (root / path).exists():
                (root / path).write_text(text)
                break


def find_port(name: str, classes: Path = PORTS) -> str | None:
    """The device node of the virtio port called `name`, or None."""
    for entry in classes.glob("*/name"):
        if entry.read_text().strip() == name:
            return f"/dev/{entry.parent.name}"
    return None


def wait_for_port(name: str) -> int:
    """Open the virtio port called `name` as soon as the kernel knows it; the host's deadline bounds the wait.

    Raises:
        OSError: as open(2) refuses.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _UEVENT_PROTOCOL) as uevents:
        uevents.bind((0, _UEVENT_GROUP))
        while (node := find_port(name)) is None:
            uevents.recv(8192)
    return os.open(node, os.O_RDWR | os.O_CLOEXEC)


def _use_console() -> None:
    console = os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for descriptor, source in enumerate((nothing, console, console)):
        os.dup2(source, descriptor)
    os.close(console)
    os.close(nothing)


def _run_agent(profile: Mapping[str, object], missing: tuple[str, ...]) -> NoReturn:
    status = 3
    try:
        os.setsid()
        agent.serve(wait_for_port("agent"), profile, missing)
    finally:
        if (error := sys.exc_info()[1]) is not None:
            traceback.print_exception(error)
        sys.stdout.flush()
        os._exit(status)  # without the clean-up of the parent's interpreter


def _power_off() -> NoReturn:
    _libc.reboot(_POWER_OFF)
    os._exit(1)  # the kernel panics when PID 1 ends: the host sees that too


def main() -> None:
    """Be PID 1; never returns in a machine."""
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    try:
        profile = json.loads(PROFILE.read_text())
        missing = prepare(profile)
        _use_console()
        if (child := os.fork()) == 0:
            _run_agent(profile, missing)
        while (dead := os.wait())[0] != child:
            pass
        print(AGENT_DIED, dead[1], flush=True)
    finally:
        _tell_failure()
        _power_off()


def _tell_failure() -> None:
    if (error := sys.exc_info()[1]) is not None:
        traceback.print_exception(error)
        print(BOOT_FAILED, f"{type(error).__name__}: {error}", flush=True)


def hand_over() -> None:
    """Be PID 1 for a moment: leave the initial rootfs and become systemd, which mounts all else itself."""
    try:
        leave_initial_rootfs()
        os.execve(SYSTEMD, [SYSTEMD], ENVIRONMENT)
    finally:
        _tell_failure()
        _power_off()


def serve_as_service() -> None:
    """Be the agent under another init; that one powers off when it ends."""
    os.environ.update(ENVIRONMENT)
    try:
        profile = json.loads(PROFILE.read_text())
        missing = set_up(profile)
        agent.serve(wait_for_port("agent"), profile, missing)
    except BaseException:
        _tell_failure()
        raise
