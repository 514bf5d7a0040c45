"""Probes of needs, on made-up trees and where harmless on this machine; and the recorder of what was seen."""

from __future__ import annotations

import errno
import gzip
import os
import platform
from pathlib import Path

import pytest

from kernelproof.conformance import kernel_calls
from kernelproof.conformance.needs import MachineLacks, NotApplicable, Paths, Probes
from kernelproof.conformance.requirements import CAPABILITIES
from kernelproof.conformance.seen import NO_ERROR, Seen, format_value

RELEASE = platform.release()
CONFIG = "CONFIG_NET=y\nCONFIG_BRIDGE=m\nCONFIG_EXT4_FS=m\nCONFIG_TUN=m\n# CONFIG_ZSWAP is not set\nCONFIG_HZ=250\n"
DEPENDENCIES = (
    "kernel/net/llc/llc.ko:\n"
    "kernel/net/802/stp.ko: kernel/net/llc/llc.ko\n"
    "kernel/net/bridge/br_netfilter.ko: kernel/net/bridge/bridge.ko kernel/net/802/stp.ko kernel/net/llc/llc.ko\n"
    "kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko\n"
    "kernel/fs/ext4/ext4.ko:\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A guest's root: a configuration, a bridge and what it depends on."""
    files = {f"boot/config-{RELEASE}": CONFIG, f"lib/modules/{RELEASE}/modules.dep": DEPENDENCIES}
    for name in ("net/llc/llc", "net/802/stp", "net/bridge/bridge", "fs/ext4/ext4"):
        files[f"lib/modules/{RELEASE}/kernel/{name}.ko"] = name.rpartition("/")[2]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that were loaded, by name; llc was there before."""
    names: list[str] = []

    def load(image: bytes) -> None:
        names.append(image.decode())
        if image == b"llc":
            raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(kernel_calls, "load_module", load)
    return names


def reason(tree: Path, *words: str, profile: str = "plain", is_machine: bool = True) -> str | None:
    """Return why the needs are not met, with the kind of outcome before it."""
    try:
        Probes(Paths(tree), profile=profile, is_machine=is_machine).check(words)
    except NotApplicable as absent:
        return f"not applicable: {absent}"
    except MachineLacks as lacking:
        return f"broken: {lacking}"
    return None


def write(tree: Path, path: str, text: str) -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text)


def test_config_built_in(tree: Path, loaded: list[str]) -> None:
    """An option that is built in, or has a value, is there; nothing is loaded."""
    assert reason(tree, "CONFIG_NET", "CONFIG_HZ") is None
    assert loaded == []


@pytest.mark.parametrize("option", ["ZSWAP", "NE", "BRIDGE_NETFILTER", "H"])
def test_config_absent(tree: Path, option: str) -> None:
    """An option that is not set, or not mentioned, makes the statement not applicable."""
    assert reason(tree, f"CONFIG_{option}") == f"not applicable: the kernel is built without CONFIG_{option}"


def test_config_module(tree: Path, loaded: list[str]) -> None:
    """A module is loaded with what it depends on before it; one that is there already is no error."""
    assert reason(tree, "CONFIG_BRIDGE") is None
    assert loaded == ["llc", "stp", "bridge"]
    assert reason(tree, "CONFIG_EXT4_FS") is None
    assert loaded[3:] == ["ext4"]


def test_module_that_is_loaded(tree: Path, loaded: list[str]) -> None:
    """A module that is loaded is not loaded again, which would cost a machine more than most tests."""
    (tree / "sys/module/bridge").mkdir(parents=True)
    assert reason(tree, "CONFIG_BRIDGE") is None
    assert loaded == []


def test_module_that_is_not_there(tree: Path, loaded: list[str]) -> None:
    """A module that modules.dep does not list is the machine's fault, with the place to name it otherwise."""
    assert "modules.dep lists no module 'tun'" in (reason(tree, "CONFIG_TUN") or "")
    (tree / f"lib/modules/{RELEASE}/modules.dep").unlink()
    assert "run depmod for the guest's root" in (reason(tree, "CONFIG_TUN") or "")


def test_module_that_does_not_load(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that the kernel refuses is the machine's fault."""

    def refuse(image: bytes) -> None:
        raise OSError(errno.ENOEXEC, "Exec format error")

    monkeypatch.setattr(kernel_calls, "load_module", refuse)
    assert (reason(tree, "CONFIG_EXT4_FS") or "").startswith("broken: needs CONFIG_EXT4_FS: its module /")


def test_config_from_proc(tree: Path) -> None:
    """Without a config file /proc/config.gz answers; without either the machine lacks it."""
    (tree / f"boot/config-{RELEASE}").unlink()
    assert "provision the kernel with its config file" in (reason(tree, "CONFIG_NET") or "")
    (tree / "proc").mkdir()
    (tree / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_NET=y\n"))
    assert reason(tree, "CONFIG_NET") is None


def test_capabilities(tree: Path) -> None:
    """A capability is read from the effective set by its number."""
    write(tree, "proc/self/status", "CapPrm:\tffffffffffffffff\nCapEff:\t0000000000200001\nCapBnd:\t0\n")
    assert reason(tree, "CAP_SYS_ADMIN", "CAP_CHOWN") is None
    text = "CAP_BPF is not in the effective set"
    assert (reason(tree, "CAP_BPF") or "").startswith(f"broken: needs CAP_BPF: {text}; choose a profile")
    assert reason(tree, "CAP_SETUID") is not None
    assert reason(tree, "CAP_BPF or CAP_SYS_ADMIN and CAP_CHOWN") is None
    without = reason(tree, "CAP_BPF", is_machine=False)
    assert without == f"not applicable: {text}", "a host without machines may lack it"
    assert (reason(tree, "command:surely-not", is_machine=False) or "").startswith("broken: ")
    both = reason(tree, "CAP_BPF and CAP_CHOWN or CAP_PERFMON") or ""
    assert f"{text}; CAP_PERFMON is not" in both


def test_capabilities_by_number() -> None:
    """The table has every capability at its number."""
    numbers = {"CHOWN": 0, "NET_ADMIN": 12, "SYS_ADMIN": 21, "MKNOD": 27, "SETFCAP": 31, "CHECKPOINT_RESTORE": 40}
    assert {name: CAPABILITIES.index(name) for name in numbers} == numbers


@pytest.mark.parametrize(
    ("word", "path", "met", "unmet"),
    [
        ("swap", "proc/swaps", "Filename Type Size\n/dev/vdb partition 1\n", "Filename Type Size\n"),
        ("huge-pages", "proc/sys/vm/nr_hugepages", "4\n", "0\n"),
        ("nsdelegate", "sys/kernel/cgroup/features", "nsdelegate\nmemory_recursiveprot\n", "memory_recursiveprot\n"),
        ("boot:cgroup_no_v1=named", "proc/cmdline", "quiet cgroup_no_v1=named\n", "quiet cgroup_no_v1=named,all\n"),
        ("boot-without-lsm:landlock", "proc/cmdline", "quiet lsm=yama,bpf\n", "quiet lsm=landlock,bpf\n"),
        (
            "initial-ramfs",
            "proc/self/mountinfo",
            "1 1 0:1 / / rw - rootfs rootfs rw\n",
            "28 1 0:1 / / rw - rootfs x rw\n",
        ),
    ],
)
def test_read_from_proc(tree: Path, word: str, path: str, met: str, unmet: str) -> None:
    """Words that a file of /proc or /sys answers: met, unmet, and unmet where the file is not there."""
    assert reason(tree, word) is not None
    write(tree, path, met)
    assert reason(tree, word) is None
    write(tree, path, unmet)
    assert reason(tree, word) is not None


def test_scratch_disc(tree: Path) -> None:
    """Memory and loop devices are no scratch disc; a virtio disc is."""
    for name in ("loop0", "ram0", "zram0"):
        (tree / "sys/block" / name).mkdir(parents=True)
    assert "there is no scratch disc" in (reason(tree, "block-device") or "")
    (tree / "sys/block/vda").mkdir()
    assert reason(tree, "block-device") is None


def test_libraries(tree: Path) -> None:
    """A library is found in the folders of its architecture too."""
    assert "there is no libsystemd.so.0" in (reason(tree, "libsystemd") or "")
    write(tree, "usr/lib/x86_64-linux-gnu/libsystemd.so.0", "")
    assert reason(tree, "libsystemd") is None


def test_power_cut(tree: Path) -> None:
    """Only the host can cut the power, so the profile answers."""
    assert reason(tree, "power-cut", profile="disk") is None
    assert "profile plain has no disc that loses unflushed writes" in (reason(tree, "power-cut") or "")


def test_commands_and_cpus(tree: Path) -> None:
    """Commands are looked for on PATH, CPUs counted as far as they may be used."""
    assert reason(tree, "command:sh", "cpus:1") is None
    assert "there is no command no-such" in (reason(tree, "command:no-such") or "")
    assert f"there are {len(os.sched_getaffinity(0))} CPUs" in (reason(tree, "cpus:9999") or "")


def test_first_absence_is_told(tree: Path) -> None:
    """Needs are asked in order and the first that is absent ends the asking."""
    assert (reason(tree, "CONFIG_NET", "CONFIG_NONE", "command:no-such") or "").startswith("not applicable")


def test_seen_records_plain_data() -> None:
    """Any value becomes JSON data; the value itself is given back."""
    assert Seen().last is None
    seen = Seen()
    assert seen((1, b"\xff", {3, 2}, None, Path("/x"))) == (1, b"\xff", {3, 2}, None, Path("/x"))
    assert seen.last == [1, "\\xff", [2, 3], None, "/x"]
    seen(OSError(errno.EPERM, "no"))
    assert seen.last == "EPERM"
    seen(errno.EPERM)
    assert seen.last == 1
    seen("a\udcff")
    assert seen.last == "a\\udcff"


def test_seen_errno_of() -> None:
    """`errno_of` gives and records the errno's name, or that there was none; other exceptions go their way."""
    seen = Seen()
    assert seen.errno_of(os.stat, "/no/such/file") == "ENOENT"
    assert seen.last == "ENOENT"
    assert seen.errno_of(os.stat, "/") == NO_ERROR
    assert seen.last == NO_ERROR
    with pytest.raises(TypeError):
        seen.errno_of(os.stat)


def test_values_as_a_witness_prints_them() -> None:
    """A text is printed as it is, anything else as JSON."""
    assert [format_value(value) for value in ("EPERM", 1, True, ["a", 1])] == ["EPERM", "1", "true", '["a", 1]']
