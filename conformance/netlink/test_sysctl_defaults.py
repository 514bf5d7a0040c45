"""Switches of a new network namespace: what they are by default, what they take, and what they do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink.shown import PROC_IPV4, PROC_IPV6
from kernelproof.impl.netlink import create_namespace, delete_namespace, run_in
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.seen import Seen

SYSCTL = Path("/proc/sys/net")


class Make(Protocol):
    def __call__(self, name: str) -> Path: ...


@pytest.fixture
def make() -> Iterator[Make]:
    """Make network namespaces with names; they are gone after the test."""
    made: list[str] = []

    def make_one(name: str) -> Path:
        file = create_namespace(name)
        made.append(name)
        return file

    yield make_one
    for name in made:
        delete_namespace(name)


class Inside(Protocol):
    def __call__(self, function: Callable[[], object]) -> object: ...


@pytest.fixture
def inside(make: Make) -> Inside:
    """Call a function in a new network namespace."""
    make("new")

    def call_there(function: Callable[[], object]) -> object:
        with run_in("new") as call:
            return call(function)

    return call_there


def write(path: str, text: str) -> None:
    """Set a switch."""
    perform(WriteFile(str(SYSCTL / path), text))


def default(statement: str, path: str, value: str) -> object:
    """A switch of a new namespace and its value."""
    return pytest.param(path, value, id=statement.removeprefix("sysctl."), marks=behaviour(statement))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        default("sysctl.tcp.shrink-window-off", "ipv4/tcp_shrink_window", "0"),
        default("sysctl.tcp.rto-min-default", "ipv4/tcp_rto_min_us", "200000"),
        default("sysctl.tcp.rto-max-default", "ipv4/tcp_rto_max_ms", "120000"),
        default("sysctl.tcp.tw-reuse-delay-default", "ipv4/tcp_tw_reuse_delay", "1000"),
        default("sysctl.tcp.syn-linear-timeouts-default", "ipv4/tcp_syn_linear_timeouts", "4"),
        default("sysctl.tcp.comp-sack-rtt-percent-default", "ipv4/tcp_comp_sack_rtt_percent", "33"),
        default("sysctl.tcp.comp-sack-slack-default", "ipv4/tcp_comp_sack_slack_ns", "10000"),
        default("sysctl.tcp.comp-sack-slack-default-before", "ipv4/tcp_comp_sack_slack_ns", "100000"),
        default("sysctl.tcp.limit-output-default", "ipv4/tcp_limit_output_bytes", "4194304"),
        default("sysctl.tcp.limit-output-default-before", "ipv4/tcp_limit_output_bytes", "1048576"),
        default("sysctl.ip.port-step-width-off", "ipv4/ip_local_port_step_width", "0"),
        default("sysctl.icmp.messages-default", "ipv4/icmp_msgs_per_sec", "10000"),
        default("sysctl.icmp.messages-default-before", "ipv4/icmp_msgs_per_sec", "1000"),
        default("sysctl.icmp.ipv6-ratelimit-default", "ipv6/icmp/ratelimit", "100"),
        default("sysctl.icmp.ipv6-ratelimit-default-before", "ipv6/icmp/ratelimit", "1000"),
        default("sysctl.link.arp-evict-nocarrier-on", "ipv4/conf/lo/arp_evict_nocarrier", "1"),
        default("sysctl.link.ndisc-evict-nocarrier-on", "ipv6/conf/lo/ndisc_evict_nocarrier", "1"),
        default("sysctl.link.default-route-metric", "ipv6/conf/lo/ra_defrtr_metric", "1024"),
    ],
)
def test_default(inside: Inside, path: str, value: str, seen: Seen) -> None:
    """A new network namespace has the default that the document gives."""
    assert seen(inside(lambda: (SYSCTL / path).read_text().strip())) == value


def bounds(statement: str, path: str, taken: str, refused: str) -> object:
    """A switch with values that it takes and values that it refuses."""
    id = statement.removeprefix("sysctl.")
    return pytest.param(path, taken.split(), refused.split(), id=id, marks=behaviour(statement))


@pytest.mark.parametrize(
    ("path", "taken", "refused"),
    [
        bounds("sysctl.tcp.rto-max-range", "ipv4/tcp_rto_max_ms", "1000 120000", "999 120001"),
        bounds("sysctl.tcp.comp-sack-rtt-percent-range", "ipv4/tcp_comp_sack_rtt_percent", "1 1000", "0 1001"),
        bounds("sysctl.tcp.ecn-accurate", "ipv4/tcp_ecn", "3 4 5", "6"),
    ],
)
def test_range(inside: Inside, path: str, taken: list[str], refused: list[str], seen: Seen) -> None:
    """What is in the range is taken and read back; what is outside gives EINVAL and changes nothing."""

    def ask() -> list[str]:
        for value in taken:
            write(path, value)
            assert (SYSCTL / path).read_text().strip() == value
        answers = [seen.errno_of(write, path, value) for value in refused]
        assert (SYSCTL / path).read_text().strip() == taken[-1]
        return answers

    assert seen(inside(ask)) == ["EINVAL"] * len(refused)


@behaviour("sysctl.link.force-forwarding-reset")
def test_forwarding_of_one_device(inside: Inside, seen: Seen) -> None:
    """force_forwarding of a device stays while forwarding of all is set to 1, and goes when that is set to 0."""

    def ask() -> list[str]:
        found = []
        for text in ("1", "0"):
            write("ipv6/conf/lo/force_forwarding", "1")
            write("ipv6/conf/all/forwarding", text)
            found.append((PROC_IPV6 / "conf/lo/force_forwarding").read_text().strip())
        return found

    assert seen(inside(ask)) == ["1", "0"]


@behaviour("sysctl.tcp.child-buckets")
def test_table_of_a_child(make: Make, seen: Seen) -> None:
    """tcp_child_ehash_entries gives a namespace that is made later a table of that many entries, rounded up."""
    make("before")
    write("ipv4/tcp_child_ehash_entries", "1000")
    make("after")
    found = []
    for name in ("before", "after"):
        with run_in(name) as call:
            found.append(int(call((PROC_IPV4 / "tcp_ehash_entries").read_text)))
    # A namespace that shares the first one's table shows its size with a minus sign.
    assert seen([found[0] < 0, found[1]]) == [True, 1024]


@pytest.fixture
def vsock() -> Path:
    """The switches of vsock."""
    return SYSCTL / "vsock"


@behaviour("sysctl.vsock.mode-of-child")
def test_mode_of_a_new_namespace(vsock: Path, make: Make, seen: Seen) -> None:
    """A namespace has the vsock mode that its parent's child_ns_mode was when it was made, for good."""
    make("before")
    write("vsock/child_ns_mode", "local")
    make("after")
    found = []
    for name in ("before", "after"):
        with run_in(name) as call:
            found.append(call((vsock / "ns_mode").read_text).strip())
    assert (vsock / "ns_mode").read_text().strip() == "global"
    assert seen(found) == ["global", "local"]


@behaviour("sysctl.vsock.child-mode-locked")
def test_mode_of_children_is_locked(seen: Seen) -> None:
    """The first write to child_ns_mode locks it: the same value is taken again, another one gives EBUSY."""
    write("vsock/child_ns_mode", "local")
    assert seen([seen.errno_of(write, "vsock/child_ns_mode", word) for word in ("local", "global")]) == [
        "no error",
        "EBUSY",
    ]


@behaviour("sysctl.vsock.local-stays-local")
def test_children_of_a_local_namespace(make: Make, seen: Seen) -> None:
    """A namespace whose mode is local can't make its children global: EPERM."""
    write("vsock/child_ns_mode", "local")
    make("inside")
    with run_in("inside") as call:
        assert seen(call(lambda: seen.errno_of(write, "vsock/child_ns_mode", "global"))) == "EPERM"
