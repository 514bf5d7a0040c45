"""The command: lines and JSON, what it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from kernelproof.impl.netlink import Neighbour, Route, Rtnl, Rule
from kernelproof.impl.netlink.__main__ import main

# The command, by whomever it is started: a job in the background would hand on an ignored SIGINT.
LISTENING = """
import signal, sys
from kernelproof.impl.netlink.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints where it succeeds."""
    capsys.readouterr()
    assert main([*arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def place(namespace: int) -> str:
    """The path of a namespace with something of all that can be listed."""
    with Rtnl(namespace) as net:
        net.link_set("lo", up=True)
        net.altnames_add("lo", "an-alternative-name-of-the-loopback")
        net.link_add("a", "veth", peer={"name": "b"}, up=True)
        net.link_set("b", up=True)
        net.address_add("a", "10.1.0.1/24")
        net.route_add(Route("10.9.0.0/16", gateway="10.1.0.2"))
        net.rule_add(Rule(77, 100, source="10.0.0.0/8"))
        net.neighbour_add(Neighbour(net.index_of("a"), "10.1.0.2", "02:00:00:00:00:02"))
        net.neighbour_add(Neighbour(net.index_of("a"), "10.1.0.3", flags=8))
    return f"/proc/self/fd/{namespace}"


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(printed(capsys, *arguments, "--json"))
    return found


def test_lists_can_be_narrowed(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One link, one family, one table, proxies, and the way of one packet."""
    where = ("--netns", place)
    by_altname = rows(capsys, "link", "an-alternative-name-of-the-loopback", *where)
    assert [each["ifname"] for each in by_altname] == ["lo"]
    assert [each["ifname"] for each in rows(capsys, "addr", "a", *where)] == ["a"]
    assert {each["family"] for each in rows(capsys, "addr", "lo", "-6", *where)[0]["addr_info"]} == {"inet6"}
    assert {each["dev"] for each in rows(capsys, "route", "a", "-4", *where)} == {"a"}
    assert {each["table"] for each in rows(capsys, "route", "--table", "local", *where)} == {"local"}
    (way,) = rows(capsys, "route", "--get", "10.9.1.1", *where)
    assert (way["gateway"], way["dev"], way["prefsrc"]) == ("10.1.0.2", "a", "10.1.0.1")
    assert [each["dst"] for each in rows(capsys, "neigh", "a", "-4", *where)] == ["10.1.0.2"]
    (proxy,) = rows(capsys, "neigh", "--proxy", *where)
    assert (proxy["dst"], "proxy" in proxy) == ("10.1.0.3", True)
    assert [each["table"] for each in rows(capsys, "rule", "-6", *where)] == ["local", "main"]
    assert {"priority": 77, "src": "10.0.0.0", "srclen": 8, "table": "100"} in rows(capsys, "rule", *where)


def test_lines_have_a_row_each(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json each record is a line of keys and values."""
    lines = printed(capsys, "route", "-4", "--netns", place).splitlines()
    assert lines == [
        "dst 10.1.0.0/24  dev a  protocol kernel  scope link  prefsrc 10.1.0.1",
        "dst 10.9.0.0/16  gateway 10.1.0.2  dev a",
    ]
    assert "state PERMANENT" in printed(capsys, "neigh", "--netns", place)
    details = printed(capsys, "link", "a", "-d", "--netns", place)
    assert "linkinfo veth" in details


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "required"),
        (["nonsense"], "invalid choice"),
        (["route", "--table", "x"], "is no table"),
        (["addr", "-4", "-6"], "not allowed with"),
        (["monitor", "colours"], "no kind 'colours'"),
        (["netns", "add"], "take a name"),
        (["netns", "list", "blue"], "list takes none"),
    ],
    ids=["nothing", "word", "table", "families", "kind", "no-name", "name"],
)
def test_wrong_words_are_status_2(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be asked for is told with the usage."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["link", "nowhere"], "No such device"),
        (["link", "--netns", "nowhere-at-all"], "No such file"),
        (["route", "--get", "10.0.0"], "no IP address"),
        (["netns", "delete", "nowhere-at-all"], "nowhere-at-all"),
        (["netns", "add", "a/b"], "no name"),
    ],
    ids=["link", "namespace", "address", "delete", "add"],
)
def test_refusals_are_a_line_and_status_1(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is refused is one line on standard error, without a traceback."""
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert why in error


def test_monitor_prints_events_until_it_is_interrupted(place: str, namespace: int) -> None:
    """An event is a line of JSON with the record's keys; SIGINT ends the command by itself, without a traceback."""
    command = [sys.executable, "-c", LISTENING, "monitor", "link", "--json", "--netns", place]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[namespace])
    try:
        assert child.stdout is not None
        poll = select.poll()
        poll.register(child.stdout, select.POLLIN)
        deadline = time.monotonic() + 60
        up = False
        with Rtnl(namespace) as net:
            while not poll.poll(100):  # until it listens
                assert time.monotonic() < deadline
                net.link_set("lo", up=up)
                up = not up
        event = json.loads(child.stdout.readline())
        assert (event["event"], event["ifname"], event["ifindex"]) == ("changed", "lo", 1)
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=60)
        assert (child.returncode, error) == (-signal.SIGINT, b"")
    finally:
        child.kill()
        child.wait()


def test_closed_pipe_is_no_traceback(place: str, namespace: int) -> None:
    """Whoever reads no further ends the command in silence."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "kernelproof.impl.netlink", "link", "--netns", place]
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, pass_fds=[namespace], check=False)
    assert b"Traceback" not in done.stderr
    assert done.returncode != 0
