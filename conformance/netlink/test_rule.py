"""Rules of policy routing: those that are there, their order, and what they decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink.shown import NO_ERROR, connect_to, ip_json, outcome, source_of
from kernelproof.impl.netlink import Route, RouteType, Rule, create_namespace, rules

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl

MAIN = 254
FIRST, SECOND, THIRD = "10.9.0.1", "10.9.0.2", "10.9.0.3"


def device(net: Rtnl) -> int:
    """Make the device port0 with the three addresses, up; return its index."""
    index = net.link_add("port0", "dummy", up=True).ifindex
    for address in (FIRST, SECOND, THIRD):
        net.address_add(index, f"{address}/24")
    return index


def route(index: int, destination: str, source: str, table: int = MAIN) -> Route:
    """A route of a table, known by the source address that it gives."""
    return Route(destination, oif=index, scope=253, table=table, preferred_source=source)


def shown_in(namespace: str, family: str) -> list[list[int]]:
    """Return priorities and tables of a namespace's rules as `ip` shows them."""
    return [[rule["priority"], int(rule["table"])] for rule in ip_json("-n", namespace, family, "-N", "rule", "show")]


@behaviour("rule.default.three-ipv4", subject="impl")
def test_new_namespace_has_three_rules(seen: Seen) -> None:
    """A new namespace looks up the tables local, main and default, in this order."""
    create_namespace("other")
    assert seen(shown_in("other", "-4")) == [[0, 255], [32766, 254], [32767, 253]]


@behaviour("rule.default.three-ipv6", subject="impl")
def test_new_namespace_has_three_rules_for_ipv6(seen: Seen) -> None:
    """A new namespace has the same three rules for IPv6."""
    create_namespace("other")
    assert seen(shown_in("other", "-6")) == [[0, 255], [32766, 254], [32767, 253]]


@behaviour("rule.default.main-deletable", subject="impl")
def test_main_table_without_its_rule(net: Rtnl, seen: Seen) -> None:
    """Without the rule 32766 the main table is not looked up."""
    index = device(net)
    net.route_add(route(index, "10.8.0.0/24", SECOND))
    assert connect_to("10.8.0.1") == NO_ERROR
    net.rule_delete(Rule(priority=32766))
    assert [rule["priority"] for rule in ip_json("rule", "show")] == [0, 32767]
    assert seen(connect_to("10.8.0.1")) == "ENETUNREACH"


@behaviour("rule.order.lowest-first", subject="impl")
def test_lower_number_decides(net: Rtnl) -> None:
    """Of two rules that match the one with the lower priority decides, whichever was added first."""
    index = device(net)
    for number, source in ((1001, FIRST), (1002, SECOND), (1003, THIRD)):
        net.route_add(route(index, "10.8.0.0/24", source, number))
    for priority, number in ((200, 1002), (100, 1001), (300, 1003)):
        net.rule_add(Rule(priority=priority, table=number))
    assert source_of("10.8.0.1") == FIRST
    net.rule_delete(Rule(priority=100, table=1001))
    assert source_of("10.8.0.1") == SECOND


def refusing(statement: str, action: int, errno: str) -> object:
    """An action of a rule, and what connect(2) ends with."""
    return pytest.param(action, errno, id=statement.rpartition(".")[2], marks=behaviour(statement, subject="impl"))


@pytest.mark.parametrize(
    ("action", "errno"),
    [
        refusing("rule.type.unreachable", rules.UNREACHABLE, "ENETUNREACH"),
        refusing("rule.type.prohibit", rules.PROHIBIT, "EACCES"),
    ],
)
def test_rule_refuses(net: Rtnl, seen: Seen, action: int, errno: str) -> None:
    """connect(2) to a destination that such a rule matches is refused, and so is a lookup; another goes through."""
    index = device(net)
    net.route_add(route(index, "10.8.0.0/16", SECOND))
    net.rule_add(Rule(priority=100, destination="10.8.0.0/24", action=action))
    assert connect_to("10.8.1.1") == NO_ERROR
    assert outcome(net.route_get, "10.8.0.1") == errno
    assert seen(connect_to("10.8.0.1")) == errno


@behaviour("rule.suppress.prefix-length", subject="impl")
def test_default_route_is_passed_over(net: Rtnl) -> None:
    """A rule with FRA_SUPPRESS_PREFIXLEN 0 uses the routes of its table, but not the default one."""
    index = device(net)
    net.route_add(route(index, "10.8.0.0/24", FIRST, 1001))
    net.route_add(route(index, "0.0.0.0/0", SECOND, 1001))
    net.route_add(route(index, "0.0.0.0/0", THIRD))
    net.rule_add(Rule(priority=100, table=1001))
    assert (source_of("10.8.0.1"), source_of("10.7.0.1")) == (FIRST, SECOND)
    net.rule_delete(Rule(priority=100, table=1001))
    net.rule_add(Rule(priority=100, table=1001, suppress_prefix_length=0))
    assert (source_of("10.8.0.1"), source_of("10.7.0.1")) == (FIRST, THIRD)


@behaviour("rule.throw.continues", subject="impl")
def test_throw_goes_on_with_the_next_rule(net: Rtnl) -> None:
    """A throw route in a rule's table makes the lookup go on with the next rule."""
    index = device(net)
    net.route_add(route(index, "10.0.0.0/8", FIRST, 1001))
    net.route_add(route(index, "10.8.0.0/16", SECOND))
    net.rule_add(Rule(priority=100, table=1001))
    assert source_of("10.8.0.1") == FIRST
    net.route_add(Route("10.8.0.0/24", table=1001, type=RouteType.THROW))
    assert (source_of("10.8.0.1"), source_of("10.8.1.1")) == (SECOND, FIRST)
