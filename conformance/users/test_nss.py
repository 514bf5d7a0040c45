"""The order of nsswitch.conf: a View of impl and the C library ask the same services with the same result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.user import Files, Records, Userdb, View, parse_nsswitch

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddLines, AddRecord, RunCommand

NSSWITCH = Path("/etc/nsswitch.conf")


def view(lines: str) -> View:
    """Make a view by the lines, which the C library gets as well."""
    NSSWITCH.write_text(lines)
    return View({"files": Files(), "systemd": Records(Userdb())}, parse_nsswitch(NSSWITCH.read_text()))


def home_of(asked: View, name: str) -> str | None:
    user = asked.user(name)
    return None if user is None else user.home


def home_by_getent(run: RunCommand, name: str) -> str | None:
    """What the C library says, in a process that has just read nsswitch.conf."""
    done = run("getent", "passwd", name)
    return done.out.split(":")[5] if done.status == 0 else None


@pytest.fixture
def two_adas(add_lines: AddLines, add_record: AddRecord) -> None:
    """ada in the files and, with another home, in the records; bob in the files only, eve in the records only."""
    add_lines(passwd="ada:x:4001:4001::/files:/bin/sh\nbob:x:4002:4002::/files:/bin/sh\n")
    add_record(userName="ada", uid=4001, homeDirectory="/records")
    add_record(userName="eve", uid=4003, homeDirectory="/records")


@behaviour("user.nss.order")
@pytest.mark.machine(profile="systemd")
@pytest.mark.usefixtures("two_adas")
def test_first_service_that_has_it(run: RunCommand, seen: Seen) -> None:
    """Services are asked in the order of nsswitch.conf until one has a result."""
    found = []
    for order in ("files systemd", "systemd files"):
        asked = view(f"passwd: {order}\n")
        homes = [home_of(asked, name) for name in ("ada", "bob", "eve")]
        assert homes == [home_by_getent(run, name) for name in ("ada", "bob", "eve")]
        found.append(homes)
    assert seen(found) == [["/files", "/files", "/records"], ["/records", "/files", "/records"]]


@behaviour("user.nss.default-actions")
@pytest.mark.machine(profile="systemd")
@pytest.mark.usefixtures("two_adas")
def test_actions_without_items(run: RunCommand, seen: Seen) -> None:
    """Without items success returns, notfound and unavail go on; with items they do what these say."""
    cases = [
        ("files systemd", "ada", "/files"),  # success returns
        ("files systemd", "eve", "/records"),  # notfound goes on
        ("nosuchservice systemd", "eve", "/records"),  # unavail goes on
        ("files [NOTFOUND=return] systemd", "eve", None),
        ("nosuchservice [UNAVAIL=return] systemd", "eve", None),
        ("files [SUCCESS=continue] systemd", "ada", "/records"),
    ]
    found = []
    for order, name, _ in cases:
        asked = view(f"passwd: {order}\n")
        found.append(home_of(asked, name))
        assert home_by_getent(run, name) == found[-1], order
    assert seen(found) == [expected for *_, expected in cases]


@behaviour("user.nss.merge")
def test_groups_are_merged(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """With [SUCCESS=merge] the members of a group that both services have are joined, and duplicates are kept."""
    add_lines(group="crew:x:4002:ada,bob\n")
    members = []
    for order in ("files files", "files [SUCCESS=merge] files"):
        group = view(f"passwd: files\ngroup: {order}\n").group("crew")
        assert group is not None
        members.append(list(group.members))
        assert run("getent", "group", "crew").out == f"crew:x:4002:{','.join(group.members)}\n"
    assert seen(members) == [["ada", "bob"], ["ada", "bob", "ada", "bob"]]


@behaviour("user.nss.unknown-database-ignored")
def test_unknown_database(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """Lines for databases that the C library does not know are ignored; impl keeps them, and asks none of them."""
    add_lines(passwd="ada:x:4001:4001::/files:/bin/sh\n")
    asked = view("sudoers: files sss\nnosuchdatabase: nosuchservice\npasswd: files\n")
    assert parse_nsswitch(NSSWITCH.read_text()).services("sudoers")[1].name == "sss"
    assert seen([home_of(asked, "ada"), home_by_getent(run, "ada")]) == ["/files", "/files"]


@behaviour("user.nss.systemd-root-nobody")
def test_root_and_nobody_are_always_there(run: RunCommand, seen: Seen) -> None:
    """With the systemd module root and nobody resolve though passwd and group are missing."""
    for name in ("passwd", "group"):
        os.rename(f"/etc/{name}", f"/etc/{name}.away")
    asked = view("passwd: files systemd\ngroup: files systemd\n")
    users = [asked.user("root"), asked.user_by_uid(65534)]
    found = [None if user is None else (user.name, user.uid, user.gid) for user in users]
    assert seen(found) == [("root", 0, 0), ("nobody", 65534, 65534)]
    printed = run("getent", "passwd", "root", "65534").out.splitlines()
    assert [(line.split(":")[0], *map(int, line.split(":")[2:4])) for line in printed] == found
