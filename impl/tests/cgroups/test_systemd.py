"""Names of units and limits as properties of systemd's, without a systemd."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.errors import LimitError, NoControllerError
from kernelproof.impl.cgroups.formats import parse_list
from kernelproof.impl.cgroups.limits import IoLimit, IoWeight, Limits
from kernelproof.impl.cgroups.systemd import bus, names, properties
from kernelproof.impl.cgroups.systemd.manager import Manager, check_given, is_booted


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("hallo", "hallo"),
        ("a/b", "a-b"),
        ("a-b", "a\\x2db"),
        (".hidden", "\\x2ehidden"),
        ("a.b", "a.b"),
        ("ä", "\\xc3\\xa4"),
        ("a b@c", "a\\x20b\\x40c"),
        ("", ""),
    ],
    ids=["plain", "slash", "dash", "dot-first", "dot", "umlaut", "space-at", "empty"],
)
def test_escaped_text(text: str, escaped: str) -> None:
    """What systemd-escape(1) gives."""
    assert names.escape(text) == escaped
    assert names.unescape(escaped) == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_escaping_can_be_turned_back(text: str) -> None:
    """Every text comes back, and the escaped one is a part of a unit's name."""
    escaped = names.escape(text)
    assert names.unescape(escaped) == text
    assert set(escaped) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\-")


def test_escaped_paths() -> None:
    """Slashes at the ends and doubled ones are gone, the root is a dash, .. is refused."""
    assert [names.escape_path(path) for path in ("/srv//web/", "/", "", "a/./b")] == ["srv-web", "-", "-", "a-b"]
    with pytest.raises(LimitError):
        names.escape_path("/srv/../etc")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("-.slice", "/"),
        ("a.slice", "/a.slice"),
        ("a-b.slice", "/a.slice/a-b.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ("a\\x2db.slice", "/a\\x2db.slice"),
    ],
    ids=["root", "one", "two", "three", "escaped"],
)
def test_expanded_slices(name: str, path: str) -> None:
    """Each dash is a level; and back."""
    assert names.expand_slice(name) == path
    assert names.slice_of(path) == name


@pytest.mark.parametrize(
    "name", ["a", "a.scope", "-a.slice", "a-.slice", "a--b.slice", "a/b.slice", ".slice", "ä.slice"]
)
def test_what_is_no_slice(name: str) -> None:
    """It is refused, before anything is asked of systemd."""
    with pytest.raises(LimitError):
        names.expand_slice(name)


def test_a_path_that_is_no_slice() -> None:
    """A slice lies where its name says."""
    with pytest.raises(LimitError):
        names.slice_of("/b.slice/a-b.slice")
    with pytest.raises(LimitError):
        names.check_unit("x" * 250 + ".scope", "scope")
    assert names.check_unit("x" * 249 + ".scope", "scope") == "x" * 249 + ".scope"


def test_limits_as_properties() -> None:
    """Each limit is the property that systemd.resource-control(5) names, in its unit and type."""
    limits = Limits(
        memory_max_bytes=64 << 20,
        memory_high_bytes=-1,
        swap_max_bytes=0,
        cpu_weight=50,
        cpu_quota_microseconds=20_000,
        cpu_period_microseconds=50_000,
        cpuset_cpus="0,9",
        pids_max=-1,
        io_weight=300,
        io_weights=(IoWeight(8, 0, 7),),
        io=(IoLimit(8, 0, read_bytes=1000, write_operations=-1),),
        memory_oom_group=True,
    )
    found = {one.name: (one.signature, one.value) for one in properties.plan_properties(limits)}
    assert found == {
        "MemoryMax": ("t", 64 << 20),
        "MemoryHigh": ("t", properties.INFINITY),
        "MemorySwapMax": ("t", 0),
        "CPUWeight": ("t", 50),
        "CPUQuotaPeriodUSec": ("t", 50_000),
        "CPUQuotaPerSecUSec": ("t", 400_000),
        "AllowedCPUs": ("ay", b"\x01\x02"),
        "TasksMax": ("t", properties.INFINITY),
        "IOWeight": ("t", 300),
        "IODeviceWeight": ("a(st)", [("/dev/block/8:0", 7)]),
        "IOReadBandwidthMax": ("a(st)", [("/dev/block/8:0", 1000)]),
        "IOWriteIOPSMax": ("a(st)", [("/dev/block/8:0", properties.INFINITY)]),
        "OOMPolicy": ("s", "kill"),
    }
    assert properties.plan_properties(Limits(cpu_idle=True)) == (properties.Property("CPUWeight", "t", 0),)
    assert properties.plan_properties(Limits()) == ()


@pytest.mark.parametrize(
    "limits",
    [
        Limits(pids_max=0),
        Limits(hugetlb_bytes={"2MB": 0}),
        Limits(unified={"memory.max": "1"}),
        Limits(cpu_burst_microseconds=1),
        Limits(cpu_weight=0),
        Limits(io_weight=10_001),
        Limits(memory_max_bytes=-2),
        Limits(cpu_idle=True, cpu_weight=1),
    ],
    ids=["pids", "hugetlb", "unified", "burst", "weight", "io-weight", "memory", "idle"],
)
def test_limits_that_systemd_can_not_keep(limits: Limits) -> None:
    """They are refused with a reason, not left out."""
    with pytest.raises(LimitError):
        properties.plan_properties(limits)


@given(st.sets(st.integers(0, 3000), max_size=20))
def test_masks_of_cpus(numbers: set[int]) -> None:
    """Every CPU is its bit, beyond 1024 too."""
    mask = properties.mask_of(sorted(numbers))
    assert {bit for bit in range(len(mask) * 8) if mask[bit // 8] >> bit % 8 & 1} == numbers
    assert properties.mask_of(parse_list("2047")) == b"\0" * 255 + b"\x80"


def test_devices_as_properties() -> None:
    """What is allowed is listed by node or driver number; what is refused can't be said."""
    rules = [DeviceRule.parse(text) for text in ("c 1:3 rwm", "b 8:* r", "c *:* m")]
    policy, allowed = properties.plan_devices(rules)
    assert policy.value == "strict"
    assert allowed.value == [("/dev/char/1:3", "rwm"), ("block-8", "r"), ("char-*", "m")]
    assert [one.value for one in properties.plan_devices([DeviceRule()])] == ["auto", []]
    for rule in (DeviceRule("c", 1, 3, "r", allow=False), DeviceRule("c", None, 3)):
        with pytest.raises(LimitError):
            properties.plan_devices([rule])


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no jeepney is told what to install; who has no bus, where none is."""
    for name in ("jeepney", "jeepney.io.blocking"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NoControllerError, match=r"pip install 'kernelproof\[systemd\]'"):
        Manager.open()


def test_without_a_user_s_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the two variables is set."""
    for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NoControllerError, match="neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR"):
        Manager.open(user=True)


def test_where_the_bus_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of a bus counts before the folder of a user; the system's bus has an address of its own."""
    for name in ("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert bus._address(user=True) == "unix:path=/run/user/7/bus"
    assert bus._address(user=False).startswith("unix:path=/")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/s")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/t")
    assert (bus._address(user=True), bus._address(user=False)) == ("unix:path=/s", "unix:path=/t")


def test_who_is_in_charge(tmp_path: Path) -> None:
    """systemd is this system's init where its folder is."""
    (tmp_path / "file").touch()
    assert is_booted(tmp_path)
    assert not is_booted(tmp_path / "file")
    assert not is_booted(tmp_path / "none")


def test_a_scope_of_nobody() -> None:
    """A scope without processes is refused before systemd hears of it."""
    with pytest.raises(ValueError, match="no process ID is given"):
        Manager(None).start_scope("web.scope", [])  # type: ignore[arg-type]


def test_limits_for_the_files_alone() -> None:
    """What systemd has no property for is left out, as is a limit of no processes; all else stays."""
    limits = Limits(pids_max=1, memory_max_bytes=4096, io=(IoLimit(8, 0, read_bytes=1),))
    assert properties.keepable(limits) == limits
    extra = limits._replace(pids_max=0, cpu_burst_microseconds=5, unified={"a": "b"}, hugetlb_bytes={"2MB": 0})
    assert properties.keepable(extra) == limits._replace(pids_max=None)


class Own:
    """The cgroup of a user's manager, which was given two controllers."""

    path = "/user@0.service"

    def controllers(self) -> tuple[str, ...]:
        return ("memory", "pids")


@pytest.mark.rule("C12")
def test_controllers_that_a_manager_was_not_given() -> None:
    """Limits of those are refused with their names; limits of the others are not."""
    check_given(Limits(memory_max_bytes=1, pids_max=1), Own())  # type: ignore[arg-type]
    with pytest.raises(NoControllerError, match=r"has no cpu, io, so the limits would mean nothing"):
        check_given(Limits(io_weight=1, cpu_weight=1, pids_max=1), Own())  # type: ignore[arg-type]
