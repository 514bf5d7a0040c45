"""Decides how QEMU is called: a machine as data, its command line as a pure function of it.

Nothing here starts a process or opens a file. A template and its clones come from one `MachineSpec`; what differs
between them is the `Role`, and nothing else may: the device state of one must load into the other.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from kernelproof.vm.discs import Disc, disc_arguments, plan_files

Version = tuple[int, int, int]

OLDEST: Version = (7, 2, 0)  # the oldest that is meant to work: Debian 12's
_FILE_MIGRATION: Version = (8, 2, 0)  # QEMU release notes: "file:" migration came with 8.2

# The guest's console is the first serial line; a panic ends the machine at once; addresses are equal in all clones.
KERNEL_WORDS = (
    "console=ttyS0",
    "quiet",
    "loglevel=4",
    "panic=-1",
    "rdinit=/init",
    "random.trust_cpu=on",
    "tsc=reliable",
    "no_timer_check",
    "nokaslr",
    "mitigations=off",
    "audit=0",
    # No self-tests of the kernel's own ciphers, in threads beside the boot: 6 of its 30 s of CPU.
    "cryptomgr.notests",
)
# `Wiring.shift` while it boots. The kernel measures its timer for 0.1 s, in a loop that asks for the time and pauses:
# 0.4 us of QEMU's for each 10 instructions, a fifth of a boot where one takes 1 ns. `virtual_clock` has the rest.
BOOT_SHIFT = 3


class Role(StrEnum):
    """What a QEMU is started for."""

    BOOT = "boot"  # boots the kernel and is snapshotted: the base template
    SESSION = "session"  # loads a base template, is prepared, and is snapshotted: the session template
    CLONE = "clone"  # loads a template into private memory, serves once, is killed


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Everything that makes a machine what it is. Its digest is the key of its template.

    Args:
        qemu_version: As QEMU reports it.
        qemu_arguments: In front of all others: where an unpacked QEMU finds its firmware.
        machine: Versioned machine type: "pc-q35-10.0".
        accelerator: "tcg" or "kvm".
        cpu: CPU model.
        cpus: Number of virtual CPUs.
        memory_mib: Guest memory.
        time: "virtual" (counts instructions, jumps over idle waits; TCG only) or "real".
        words: Kernel command line words after `KERNEL_WORDS`.
        kernel_digest: SHA-256 of the uncompressed kernel.
        initrd_digests: SHA-256 of the cpio archives, in their order.
        host_cpu: Identity of the host's CPU where the guest sees it (KVM), else empty.
        discs: Its discs.
    """

    qemu_version: Version
    qemu_arguments: tuple[str, ...]
    machine: str
    accelerator: str
    cpu: str
    cpus: int
    memory_mib: int
    time: str
    words: tuple[str, ...]
    kernel_digest: str
    initrd_digests: tuple[str, ...]
    host_cpu: str = ""
    discs: tuple[Disc, ...] = ()

    def __post_init__(self) -> None:
        if self.accelerator not in ("tcg", "kvm"):
            raise ValueError(f"accelerator {self.accelerator!r}: not tcg or kvm")
        if self.time not in ("virtual", "real") or (self.time == "virtual" and self.accelerator != "tcg"):
            raise ValueError(f"time {self.time!r} under {self.accelerator}: virtual time needs tcg")


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where the ends of one machine lie on this host, and what else of one clone is not its template's.

    Args:
        executable: The QEMU binary.
        memory: Path of the guest's memory, of exactly the size of it.
        console: Path that the serial line is appended to.
        qmp: Descriptor of the control socket in QEMU.
        agent: Descriptor of the agent's socket in QEMU.
        kernel: Path of the uncompressed kernel; used to boot only.
        initrd: Path of the initramfs; used to boot only.
        discs: Paths of the files of the discs, in the order of `plan_files`.
        shift: An instruction takes 2 to this power nanoseconds of virtual time; a clone may differ from its template.
            A machine that boots has `BOOT_SHIFT`.
        terminal: Descriptor of the terminal's socket in QEMU; of a machine in real time.
    """

    executable: str
    memory: str
    console: str
    qmp: int
    agent: int
    kernel: str = ""
    initrd: str = ""
    discs: tuple[str, ...] = ()
    shift: int = 0
    terminal: int = -1


SYMBOLIC = Wiring(
    "QEMU", "MEMORY", "CONSOLE", 3, 4, "KERNEL", "INITRD", terminal=5
)  # what stands in a record for this host's paths


def qemu_command(spec: MachineSpec, role: Role, wiring: Wiring) -> tuple[str, ...]:
    """The argument vector of QEMU for a machine in a role."""
    return (
        wiring.executable,
        *spec.qemu_arguments,
        *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
        *_processor_arguments(spec, BOOT_SHIFT if role is Role.BOOT else wiring.shift),
        *_memory_arguments(spec, role, wiring),
        *_channel_arguments(wiring),
        *_terminal_arguments(spec, wiring),
        *_device_arguments(),
        *disc_arguments(spec.discs, wiring.discs),
        *_start_arguments(spec, role, wiring),
    )


def _processor_arguments(spec: MachineSpec, shift: int) -> tuple[str, ...]:
    threads = "" if spec.accelerator != "tcg" else ",thread=single" if spec.time == "virtual" else ",thread=multi"
    count = ("-icount", f"shift={shift},sleep=off") if spec.time == "virtual" else ()
    machine = f"{spec.machine},memory-backend=memory,usb=off,vmport=off,smbus=off,sata=off,hpet=off"
    accelerator = f"{spec.accelerator}{threads}"
    return ("-machine", machine, "-accel", accelerator, "-cpu", spec.cpu, "-smp", str(spec.cpus), *count)


def _memory_arguments(spec: MachineSpec, role: Role, wiring: Wiring) -> tuple[str, ...]:
    share = "off" if role is Role.CLONE else "on"
    size = f"{spec.memory_mib}M"
    backend = f"memory-backend-file,id=memory,size={size},mem-path={_escape(wiring.memory)},share={share}"
    return ("-m", size, "-object", backend)


def _channel_arguments(wiring: Wiring) -> tuple[str, ...]:
    # Connected socket pairs: nothing listens, nothing is left behind, and the end of either is the end of QEMU.
    return (
        *("-chardev", f"socket,id=qmp,fd={wiring.qmp}", "-mon", "chardev=qmp,mode=control"),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,fd={wiring.agent}"),
        *("-device", "virtserialport,chardev=agent,name=agent"),
        *("-chardev", f"file,id=console,path={_escape(wiring.console)},append=on", "-serial", "chardev:console"),
    )


def has_terminal(spec: MachineSpec) -> bool:
    """Whether a machine has a second port, for a person at a terminal: in virtual time nobody could be waited for."""
    return spec.time == "real"


def _terminal_arguments(spec: MachineSpec, wiring: Wiring) -> tuple[str, ...]:
    if not has_terminal(spec):
        return ()
    chardev = f"socket,id=terminal,fd={wiring.terminal}"
    return ("-chardev", chardev, "-device", "virtserialport,chardev=terminal,name=terminal")


def _device_arguments() -> tuple[str, ...]:
    # panic=none: the guest flushes its log and ends the machine itself (panic=-1); pausing it would lose the log.
    # No vmgenid: the wake reseeds every kernel, also those without its driver, and its ACPI event costs a clone 0.01 s.
    return ("-device", "pvpanic-pci", "-device", "virtio-rng-pci", "-action", "panic=none")


def _start_arguments(spec: MachineSpec, role: Role, wiring: Wiring) -> tuple[str, ...]:
    if role is not Role.BOOT:
        return ("-incoming", "defer")
    words = " ".join((*KERNEL_WORDS, *spec.words))
    return ("-kernel", wiring.kernel, "-initrd", wiring.initrd, "-append", words)


def _escape(value: str) -> str:
    return value.replace(",", ",,")  # a comma ends a value in QEMU's option syntax


def template_record(spec: MachineSpec) -> dict[str, object]:
    """The one record whose digest is the key of the base template: the spec, and every command line made of it."""
    wiring = replace(SYMBOLIC, discs=tuple(f"DISC-{file.name}" for file in plan_files(spec.discs)))
    commands = {role.value: list(qemu_command(spec, role, wiring)) for role in Role}
    return {"format": 1, "spec": asdict(spec), "commands": commands}


def parse_newest_q35(text: str) -> str:
    """The newest versioned q35 in the output of `-machine help`: an alias would change under a template's key.

    Raises:
        ValueError: there is none.
    """
    versions = [(int(found[1]), int(found[2])) for found in re.finditer(r"^pc-q35-(\d+)\.(\d+) ", text, re.M)]
    if not versions:
        raise ValueError("QEMU knows no machine type pc-q35-X.Y")
    return "pc-q35-{}.{}".format(*max(versions))


def migration_road(version: Version) -> str:
    """How state goes to and from a file: "file" (a path in the URI); before 8.2 "fd" (a descriptor sent over QMP)."""
    return "file" if version >= _FILE_MIGRATION else "fd"
