"""Command lines by their text, and the record that is the key of a template."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from typing import Any

import pytest

from kernelproof.vm.cache import digest_record
from kernelproof.vm.discs import Disc
from kernelproof.vm.qemu import (
    SYMBOLIC,
    MachineSpec,
    Role,
    Wiring,
    migration_road,
    parse_newest_q35,
    qemu_command,
    template_record,
)

SPEC = MachineSpec(
    qemu_version=(10, 0, 13),
    qemu_arguments=(),
    machine="pc-q35-10.0",
    accelerator="tcg",
    cpu="qemu64",
    cpus=2,
    memory_mib=1024,
    time="virtual",
    words=(),
    kernel_digest="k",
    initrd_digests=("r", "m", "s", "a"),
)

COMMON = (
    "QEMU -nodefaults -no-user-config -nographic -no-reboot "
    "-machine pc-q35-10.0,memory-backend=memory,usb=off,vmport=off,smbus=off,sata=off,hpet=off "
    "-accel tcg,thread=single -cpu qemu64 -smp 2 -icount shift={shift},sleep=off "
    "-m 1024M -object memory-backend-file,id=memory,size=1024M,mem-path=MEMORY,share={share} "
    "-chardev socket,id=qmp,fd=3 -mon chardev=qmp,mode=control "
    "-device virtio-serial-pci -chardev socket,id=agent,fd=4 -device virtserialport,chardev=agent,name=agent "
    "-chardev file,id=console,path=CONSOLE,append=on -serial chardev:console "
    "-device pvpanic-pci -device virtio-rng-pci -action panic=none "
)
WORDS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 rdinit=/init random.trust_cpu=on tsc=reliable no_timer_check "
    "nokaslr mitigations=off audit=0 cryptomgr.notests"
)


def command(spec: MachineSpec, role: Role) -> str:
    return shlex.join(qemu_command(spec, role, SYMBOLIC))


def test_command_of_a_boot() -> None:
    """A base template boots a kernel, its memory shared with the file that becomes the template, its clock faster."""
    expected = COMMON.format(share="on", shift=3) + f"-kernel KERNEL -initrd INITRD -append '{WORDS}'"
    assert command(SPEC, Role.BOOT) == expected


def test_command_of_a_session() -> None:
    """A session template loads a state and shares its memory with the file."""
    assert command(SPEC, Role.SESSION) == COMMON.format(share="on", shift=0) + "-incoming defer"


def test_command_of_a_clone() -> None:
    """A clone loads a state and keeps what it writes to memory to itself."""
    assert command(SPEC, Role.CLONE) == COMMON.format(share="off", shift=0) + "-incoming defer"


def test_real_time() -> None:
    """Real time under TCG counts no instructions and gives each CPU a thread."""
    text = command(replace(SPEC, time="real"), Role.CLONE)
    assert "-icount" not in text
    assert "-accel tcg,thread=multi " in text
    assert " -chardev socket,id=terminal,fd=5 -device virtserialport,chardev=terminal,name=terminal " in text


def test_kvm() -> None:
    """Under KVM there are no threads to choose and no instructions to count."""
    text = command(replace(SPEC, time="real", accelerator="kvm", cpu="host"), Role.CLONE)
    assert "-accel kvm -cpu host " in text
    assert "-icount" not in text


def test_words_of_a_profile() -> None:
    """A profile's kernel words come after those of every machine."""
    assert qemu_command(replace(SPEC, words=("lsm=lockdown", "swiotlb=1")), Role.BOOT, SYMBOLIC)[-1] == (
        f"{WORDS} lsm=lockdown swiotlb=1"
    )


def test_arguments_of_an_unpacked_qemu() -> None:
    """What QEMU needs to find its firmware comes first."""
    assert command(replace(SPEC, qemu_arguments=("-L", "/f w")), Role.CLONE).startswith("QEMU -L '/f w' -nodefaults")


def test_comma_in_a_path() -> None:
    """A comma in a path does not end the option that it is in."""
    text = shlex.join(qemu_command(SPEC, Role.CLONE, replace(SYMBOLIC, memory="/a,b", console="/c,d")))
    assert "mem-path=/a,,b,share=off" in text
    assert "path=/c,,d,append=on" in text


@pytest.mark.parametrize(
    "change",
    [
        {"accelerator": "hvf", "time": "real"},
        {"time": "fast"},
        {"accelerator": "kvm"},
    ],
    ids=str,
)
def test_machine_that_can_not_be(change: dict[str, Any]) -> None:
    """An unknown accelerator, an unknown time, and virtual time under KVM are refused."""
    with pytest.raises(ValueError, match=r"accelerator|time"):
        replace(SPEC, **change)


OTHER: dict[str, Any] = {
    "qemu_version": (10, 0, 14),
    "qemu_arguments": ("-L", "x"),
    "machine": "pc-q35-9.2",
    "accelerator": "kvm",
    "cpu": "Nehalem",
    "cpus": 1,
    "memory_mib": 2048,
    "time": "real",
    "words": ("quiet",),
    "kernel_digest": "other",
    "initrd_digests": ("r", "m", "s", "other"),
    "host_cpu": "other",
    "discs": (Disc("scratch", 64),),
}


def test_every_field_is_tried() -> None:
    """The test below knows every field of a spec."""
    assert set(OTHER) == {field.name for field in fields(MachineSpec)}


@pytest.mark.parametrize("name", OTHER)
def test_every_field_changes_the_key(name: str) -> None:
    """A change of any field is a change of the template's key."""
    real = replace(SPEC, time="real")
    before = real if name == "accelerator" else SPEC
    assert digest_record(template_record(replace(before, **{name: OTHER[name]}))) != digest_record(
        template_record(before)
    )


def test_command_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of how QEMU is called is a change of the key, though no field of the spec changed."""
    before = digest_record(template_record(SPEC))
    monkeypatch.setattr("kernelproof.vm.qemu.KERNEL_WORDS", ("console=ttyS0",))
    assert digest_record(template_record(SPEC)) != before


def test_record_names_no_place_of_this_host() -> None:
    """Where things lie on this host is not in the record."""
    wiring = Wiring("/opt/qemu", "/proc/1/fd/9", "/proc/1/fd/8", 11, 12, "/k", "/i")
    assert "/opt/qemu" in qemu_command(SPEC, Role.BOOT, wiring)
    assert "/opt/qemu" not in str(template_record(SPEC))
    assert "/proc" not in str(template_record(SPEC))


def test_newest_machine_type() -> None:
    """The newest versioned q35 counts, by number and not by text; aliases and other machines do not."""
    text = (
        "Supported machines are:\n"
        "pc-q35-9.2           Standard PC (Q35 + ICH9, 2009)\n"
        "q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-10.0)\n"
        "pc-q35-10.0          Standard PC (Q35 + ICH9, 2009)\n"
        "pc-q35-4.0.1         Standard PC (Q35 + ICH9, 2009) (deprecated)\n"
        "pc-i440fx-11.0       Standard PC (i440FX + PIIX, 1996)\n"
    )
    assert parse_newest_q35(text) == "pc-q35-10.0"
    with pytest.raises(ValueError, match="no machine type"):
        parse_newest_q35("none                 empty machine\n")


@pytest.mark.parametrize(
    ("version", "road"), [((7, 2, 0), "fd"), ((8, 1, 5), "fd"), ((8, 2, 0), "file"), ((10, 0, 13), "file")]
)
def test_migration_road(version: tuple[int, int, int], road: str) -> None:
    """A QEMU before 8.2 gets a descriptor for its state, a later one a path."""
    assert migration_road(version) == road
