"""Decides between KVM and TCG by booting a real kernel: nothing less proves that KVM works.

A host whose /dev/kvm answers every ioctl(2), and even runs a small ROM, may abort or hang on a stock kernel. So the
kernel that the machine is for is booted with an init of two system calls: it prints a word and powers off. The answer
holds for one boot of the host, one QEMU, one kernel, and is cached so.
"""

from __future__ import annotations

import io
import os
import select
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kernelproof.vm.cache import Cache, digest_record, read_boot_id
from kernelproof.vm.console import Console
from kernelproof.vm.cpio import make_character_device, make_directory, make_file, write_newc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.process import Spawner
from kernelproof.vm.provision_types import Progress, Provisioned

KIND = "accelerator"
PROBE_SECONDS = 5.0  # TCG needs 2.7 s for as much; a KVM that works far less
CPUS = ("host", "qemu64")  # tried in this order under KVM
TCG_CPU = "qemu64"  # "max" costs 3 to 8 % more CPU and gives the tests nothing
WORD = b"KERNELPROOF-PROBE-OK\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs the guest's instructions.

    Args:
        name: "tcg" or "kvm".
        cpu: CPU model.
        host_cpu: Identity of the host's CPU where the guest sees it.
    """

    name: str
    cpu: str
    host_cpu: str = ""


def choose_accelerator(
    made: Provisioned, machine: str, forced: str | None, *, cache: Cache, spawner: Spawner, progress: Progress
) -> Choice:
    """KVM if a real boot proved it, else TCG.

    Args:
        made: QEMU and kernel.
        machine: Machine type.
        forced: "tcg", "kvm", or None to find out.
        cache: Holds the answers.
        spawner: Forks the probes.
        progress: Is told when a probe is made.

    Raises:
        ProvisionError: KVM is forced and does not boot, or `forced` is another word.
    """
    if forced not in (None, "tcg", "kvm"):
        raise ProvisionError("choose accelerator", str(forced), "not tcg or kvm", "set KERNELPROOF_ACCELERATOR to one")
    if forced == "tcg" or (forced is None and not os.access("/dev/kvm", os.R_OK | os.W_OK)):
        return Choice("tcg", TCG_CPU)
    qemu = ".".join(map(str, made.qemu.version))
    record = {"boot": read_boot_id(), "qemu": qemu, "kernel": made.kernel.digest, "machine": machine}
    digest = digest_record(record)
    with cache.locked(KIND, "probe"):
        if (folder := cache.find(KIND, digest)) is None:
            progress.step("try KVM")
            answer = next((cpu for cpu in CPUS if probe(made, machine, cpu, spawner)), "")
            _forget_answers(cache, record["boot"])
            with cache.building(KIND, digest) as work:
                (work / "cpu").write_text(answer, "ascii")
                (work / "boot").write_text(record["boot"], "ascii")
            folder = cache.path(KIND, digest)
        cpu = (folder / "cpu").read_text("ascii")
    if cpu:
        return Choice("kvm", cpu, read_host_cpu())
    if forced == "kvm":
        raise ProvisionError(
            "choose accelerator", "kvm", "this kernel does not boot under it", "leave it to be found out"
        )
    return Choice("tcg", TCG_CPU)


def read_host_cpu(path: Path = Path("/proc/cpuinfo")) -> str:
    """The lines that tell one host CPU from another, of its first processor."""
    first = path.read_text("utf-8", "replace").split("\n\n")[0]
    wanted = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
    return "\n".join(line for line in first.splitlines() if line.split("\t")[0].split(":")[0].strip() in wanted)


def probe_command(
    made: Provisioned, machine: str, cpu: str, initrd: str, console: str, accelerator: str = "kvm"
) -> tuple[str, ...]:
    """The argument vector of a probe. Pure."""
    qemu = made.qemu
    return (
        str(qemu.executable),
        *qemu.arguments,
        *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-machine", machine, "-accel", accelerator),
        *("-cpu", cpu, "-smp", "1", "-m", "256M", "-monitor", "none"),
        *("-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console"),
        *("-kernel", str(made.kernel.vmlinux), "-initrd", initrd),
        *("-append", "console=ttyS0 quiet panic=-1 rdinit=/init nokaslr"),
    )


def probe(
    made: Provisioned,
    machine: str,
    cpu: str,
    spawner: Spawner,
    accelerator: str = "kvm",
    seconds: float = PROBE_SECONDS,
) -> bool:
    """Whether a real boot gets as far as its init.

    Args:
        made: QEMU and kernel.
        machine: Machine type.
        cpu: CPU model.
        spawner: Forks the QEMU.
        accelerator: What is tried.
        seconds: Wall time after which it is given up.

    Raises:
        ProvisionError: setpriv(1) is absent.
        OSError: no descriptors, processes or memory.
    """
    initrd = os.memfd_create("kernelproof-probe", os.MFD_CLOEXEC)
    with closing(Console("probe")) as console, closing(Console("probe-stderr")) as errors:
        try:
            os.write(initrd, pack_probe())
            command = probe_command(made, machine, cpu, f"/proc/{os.getpid()}/fd/{initrd}", console.path, accelerator)
            environment = {"LC_ALL": "C", **dict(made.qemu.environment)}
            child = spawner.spawn(command, descriptors=(), errors=errors.descriptor, environment=environment)
            with closing(child):
                ended, _, _ = select.select([child.pidfd], [], [], seconds)
            return bool(ended) and WORD in console.read().replace(b"\r\n", b"\n")
        finally:
            os.close(initrd)


def _forget_answers(cache: Cache, boot: str) -> None:
    # Those of earlier boots of the host are of no use.
    for folder in cache.folder(KIND).iterdir():
        if len(folder.name) == 64 and (folder / "boot").read_text("ascii") != boot:
            cache.drop(KIND, folder.name)


def pack_probe() -> bytes:
    """An initramfs whose init prints `WORD` and powers off. Pure."""
    members = [make_directory("dev"), make_character_device("dev/console", 5, 1), make_file("init", make_init(), 0o755)]
    packed = io.BytesIO()
    write_newc(packed, members)
    return packed.getvalue()


def make_init() -> bytes:
    """A static x86-64 ELF program: write(1, WORD), reboot(RB_POWER_OFF). Pure.

    Built here by hand, because the smallest program of a distribution is 2 MB and would have to be fetched.
    """
    code = b"".join(
        (
            b"\xb8\x01\x00\x00\x00",  # mov eax, 1 (write)
            b"\xbf\x01\x00\x00\x00",  # mov edi, 1
            b"\x48\x8d\x35\x1d\x00\x00\x00",  # lea rsi, [rip + 29]: the word, behind the code
            b"\xba" + len(WORD).to_bytes(4, "little"),  # mov edx, length
            b"\x0f\x05",  # syscall
            b"\xb8\xa9\x00\x00\x00",  # mov eax, 169 (reboot)
            b"\xbf\xad\xde\xe1\xfe",  # mov edi, LINUX_REBOOT_MAGIC1
            b"\xbe\x69\x19\x12\x28",  # mov esi, LINUX_REBOOT_MAGIC2
            b"\xba\xdc\xfe\x21\x43",  # mov edx, LINUX_REBOOT_CMD_POWER_OFF
            b"\x0f\x05",  # syscall
        )
    )
    return _wrap_elf(code + WORD)


def _wrap_elf(image: bytes) -> bytes:
    base, header_size = 0x400000, 64 + 56
    number = int.to_bytes
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + b"".join(
        number(value, size, "little")
        for value, size in (
            *((2, 2), (62, 2), (1, 4), (base + header_size, 8)),  # executable, x86-64, version, entry
            *((64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2), (0, 2), (0, 2), (0, 2)),  # one program header at 64
        )
    )
    total = header_size + len(image)
    segment = b"".join(
        number(value, size, "little")
        for value, size in ((1, 4), (5, 4), (0, 8), (base, 8), (base, 8), (total, 8), (total, 8), (0x1000, 8))
    )
    return header + segment + image
