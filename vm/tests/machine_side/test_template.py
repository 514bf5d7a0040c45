"""What templates are decided from: profiles, archives, facts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kernelproof.vm.accelerator import WORD, Choice, make_init, pack_probe, probe_command, read_host_cpu
from kernelproof.vm.agent_archive import pack_agent, read_agent
from kernelproof.vm.discs import Disc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.memory import create_memory
from kernelproof.vm.process import Spawner
from kernelproof.vm.profiles import PROFILES, find_profile, parse_profiles
from kernelproof.vm.provision_types import Kernel, Provisioned, Qemu, Root, Site
from kernelproof.vm.qemu import template_record
from kernelproof.vm.running import Program
from kernelproof.vm.snapshot import SessionTemplate
from kernelproof.vm.template import Template, describe, plan_machine, read_machine_type

HERE = Path("/x")
MADE = Provisioned(
    qemu=Qemu(HERE / "qemu", (10, 0, 13), ("-L", "/f"), (("LD_LIBRARY_PATH", "/l"),), "cache"),
    kernel=Kernel("6.12", "6.12.1-cloud", "linux-image", "6.12.1-1", HERE / "k", HERE / "c", HERE / "m", "kd", "cd"),
    root=Root(HERE / "r", "rd", "3.13", ("iproute2=6.15.0-1", "dash=0.5")),
    site=Site(HERE / "s", "sd", ("pyroute2==0.9.7", "pytest==9.0")),
)
TCG = Choice("tcg", "qemu64")

ROW = """
[p]
about = "a"
packages = ["x"]
cpus = 1
memory_mib = 512
words = ["quiet"]
modules = [["dummy", "numdummies=0"], ["tun"]]
imports = ["json"]
discs = [{ name = "scratch", mib = 64, loses = true }]
settings = [["vm/nr_hugepages", "8"]]
commands = [["swapon", "/dev/disc/swap"]]
init = "agent"
times = ["virtual", "real"]
"""
TWIN = """
[q]
about = "b"
like = "p"
packages = ["y"]
memory_mib = 2048
times = ["real"]
"""


def test_profile() -> None:
    """A row becomes a record of tuples."""
    profile = parse_profiles(ROW)["p"]
    assert profile.modules == (("dummy", "numdummies=0"), ("tun",))
    assert (profile.name, profile.packages, profile.cpus, profile.memory_mib) == ("p", ("x",), 1, 512)
    assert profile.discs == (Disc("scratch", 64, loses=True),)


def test_profile_like_another() -> None:
    """A row that is like another one adds to its lists and replaces its other members."""
    plain, twin = parse_profiles(ROW + TWIN).values()
    assert (twin.packages, twin.memory_mib, twin.times) == (("x", "y"), 2048, ("real",))
    assert replace(twin, name="p", about="a", packages=("x",), memory_mib=512, times=plain.times) == plain


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (("cpus = 1", "cpus = true"), "cpus: True is no number"),
        (("cpus = 1", 'cpus = "1"'), "cpus: '1' is no number"),
        (('packages = ["x"]', 'packages = "x"'), "packages: 'x' is no list"),
        (('words = ["quiet"]', "words = [1]"), "words: 1 is no text"),
        (('init = "agent"', 'init = "upstart"'), "init: 'upstart' is not one of agent"),
        (("mib = 64", "mib = 0"), "discs: disc 'scratch'"),
        (("[p]", '[p]\nlike = "q"'), "like 'q', which is not a row before it"),
    ],
)
def test_profile_with_wrong_members(change: tuple[str, str], seen: str) -> None:
    """A member of another type, or a row that is like none, is refused by name."""
    with pytest.raises(ValueError, match=f"profile 'p'.*{seen}"):
        parse_profiles(ROW.replace(*change))


@pytest.mark.parametrize(
    "change", [("cpus = 1\n", ""), ("cpus = 1", "cpus = 1\nextra = 2")], ids=["missing", "unknown"]
)
def test_profile_with_other_members(change: tuple[str, str]) -> None:
    """A row that lacks a member or has one too many is refused by name."""
    with pytest.raises(ValueError, match=r"profile 'p': members \['(cpus|extra)'\]"):
        parse_profiles(ROW.replace(*change))


def test_unknown_profile() -> None:
    """An unknown profile is refused with a list of those that are."""
    with pytest.raises(ProvisionError, match="there are: plain"):
        find_profile("fancy")
    assert set(parse_profiles(PROFILES.read_text())) >= {"plain"}


def test_agent_archive() -> None:
    """The agent's archive holds /init, the guest's modules and what the profile says, and is made of nothing else."""
    profile = find_profile("plain")
    modules = read_agent()
    assert {"kernelproof/__init__.py", "kernelproof/vm/guest/init.py", "kernelproof/vm/guest/agent.py"} <= set(modules)
    packed = pack_agent(profile, modules)
    assert packed == pack_agent(profile, modules)
    assert packed.startswith(b"070701")
    for name in (b"init\0", b"usr/lib/kernelproof-agent/profile.json\0"):
        assert name in packed
    changed = {**modules, "kernelproof/vm/guest/agent.py": b"changed"}
    assert pack_agent(profile, changed) != packed
    assert pack_agent(replace(profile, imports=()), modules) != packed


def test_plan() -> None:
    """A machine's record holds the digest of everything that was provisioned, and of the agent."""
    spec = plan_machine(MADE, find_profile("plain"), "virtual", "pc-q35-10.0", TCG, "ad")
    record = json.dumps(template_record(spec))
    for digest in ("kd", "rd", "sd", "ad"):
        assert f'"{digest}"' in record
    assert (spec.time, spec.cpus, spec.memory_mib) == ("virtual", 2, 1024)
    kvm = plan_machine(MADE, find_profile("plain"), "virtual", "pc-q35-10.0", Choice("kvm", "host", "cpu"), "ad")
    assert (kvm.time, kvm.host_cpu) == ("real", "cpu")


def test_plan_of_a_profile_without_virtual_time() -> None:
    """Where a profile has no virtual time the machine's is real, whatever was asked for; its discs are its own."""
    profile = replace(find_profile("disk"), times=("real",))
    spec = plan_machine(MADE, profile, "virtual", "pc-q35-10.0", TCG, "ad")
    assert (spec.time, [disc.name for disc in spec.discs]) == ("real", ["scratch", "swap"])


def test_facts() -> None:
    """Headers get the kernel, the guest with the versions of its observers, and the machine."""
    spec = plan_machine(MADE, find_profile("plain"), "virtual", "pc-q35-10.0", TCG, "ad")
    facts = describe(MADE, spec)
    assert facts["guest"] == {
        "root_digest": "rd",
        "python": "3.13",
        "observers": {"iproute2": "6.15.0-1", "pyroute2": "0.9.7"},
    }
    assert facts["machine"] == {"qemu": "10.0.13", "accelerator": "tcg", "time": "virtual", "cpus": 2}
    assert facts["kernel"] == {
        "name": "6.12",
        "series": "6.12",
        "release": "6.12.1-cloud",
        "package": "linux-image",
        "build": "6.12.1-1",
        "config_digest": "cd",
    }


def test_wishes_that_can_not_be() -> None:
    """A template is refused at once for an unknown time or profile."""
    with pytest.raises(ValueError, match="not virtual or real"):
        Template(time="fast")
    with pytest.raises(ProvisionError, match="choose profile"):
        Template(profile="fancy")


def test_old_qemu() -> None:
    """A QEMU that is too old is refused before it is started."""
    with pytest.raises(ProvisionError, match=r"6\.2\.0: too old"):
        read_machine_type(replace(MADE.qemu, version=(6, 2, 0)))


def test_qemu_without_machines(tmp_path: Path) -> None:
    """A QEMU that does not say what machines it has is refused with what it said."""
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho lost library >&2; exit 5\n")
    program.chmod(0o755)
    with pytest.raises(ProvisionError, match="exit status 5: lost library"):
        read_machine_type(replace(MADE.qemu, executable=program))


def test_export() -> None:
    """A session template's export is plain data from which another is attached; without its owner it is an error."""
    spec = plan_machine(MADE, find_profile("plain"), "virtual", "pc-q35-10.0", TCG, "ad")
    memory, state = create_memory("m", 4096), create_memory("s", 4096)
    facts = describe(MADE, spec)
    session = SessionTemplate(spec, Program("/q", (("A", "b"),)), memory, state, facts, Spawner())
    exported = json.loads(json.dumps(session.export()))
    attached = SessionTemplate.attach(exported)
    assert attached.spec == spec
    assert attached.facts == facts
    attached.close()
    session.close()
    with pytest.raises(Exception, match="keep the process that made it running"):
        SessionTemplate.attach(exported)


def test_probe_program() -> None:
    """The probe's init is an ELF program whose instruction for the word's address hits the word."""
    program = make_init()
    assert program[:4] == b"\x7fELF"
    entry = int.from_bytes(program[24:32], "little") - 0x400000
    lea = program.index(b"\x48\x8d\x35")
    target = lea + 7 + int.from_bytes(program[lea + 3 : lea + 7], "little")
    assert entry == 120
    assert program[target:] == WORD
    assert program in pack_probe()


def test_probe_command() -> None:
    """A probe boots the real kernel by the accelerator that is tried."""
    command = probe_command(MADE, "pc-q35-10.0", "host", "/i", "/c")
    assert command[:3] == ("/x/qemu", "-L", "/f")
    assert "-accel kvm -cpu host" in " ".join(command)
    assert "-kernel /x/k -initrd /i" in " ".join(command)


def test_host_cpu(tmp_path: Path) -> None:
    """A host's CPU is told by its model and flags, not by its momentary clock."""
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel\t\t: 17\ncpu MHz\t\t: 2000\nflags\t\t: fpu\n\nmodel\t: 18\n"
    )
    assert read_host_cpu(tmp_path / "cpuinfo") == "model\t\t: 17\nflags\t\t: fpu"
