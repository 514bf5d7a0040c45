"""Lines of group and shadow: what impl reads from them, and what the C library and commands say of the same lines."""

from __future__ import annotations

import datetime
import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.user import lookup_group, read_group, read_shadow

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddLines, RunCommand

ADA = "ada:x:4001:4002:Ada:/home/ada:/bin/sh\n"


@behaviour("user.group.four-fields")
def test_line_has_four_fields(add_lines: AddLines, seen: Seen) -> None:
    """A line's four fields are name, password, gid and members separated by commas, for impl and for the C library."""
    add_lines(group="crew:x:4002:ada,bob\n")
    group = lookup_group("crew")
    assert seen((group.name, group.password, group.gid, group.members)) == ("crew", "x", 4002, ("ada", "bob"))
    found = grp.getgrnam("crew")
    assert [found.gr_name, found.gr_passwd, found.gr_gid, found.gr_mem] == ["crew", "x", 4002, ["ada", "bob"]]


@behaviour("user.group.empty-members")
@pytest.mark.parametrize(
    ("line", "members"),
    [("g:x:4002:", ()), ("g:x:4002", ()), ("g:x:4002:,,", ()), ("g:x:4002:alice,,bob,", ("alice", "bob"))],
    ids=["empty", "no-field", "commas", "items"],
)
def test_empty_items_are_no_members(add_lines: AddLines, line: str, members: tuple[str, ...], seen: Seen) -> None:
    """An empty list and empty items between commas produce no members."""
    add_lines(group=line + "\n")
    assert seen(lookup_group("g").members) == members
    assert tuple(grp.getgrnam("g").gr_mem) == members


@behaviour("user.group.split-entries")
def test_group_of_several_lines(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """With MAX_MEMBERS_PER_GROUP 2 the third member begins a second line of the same name, password and gid."""
    add_lines(
        passwd="".join(f"user{each}:x:410{each}:100::/:\n" for each in range(3)),
        group="crew:x:4002:\n",
        **{"login.defs": "\nMAX_MEMBERS_PER_GROUP 2\n"},
    )
    for each in range(3):
        assert run("usermod", "-aG", "crew", f"user{each}").status == 0
    lines = [(group.password, group.gid, group.members) for group in read_group() if group.name == "crew"]
    assert seen(sorted(len(members) for _, _, members in lines)) == [1, 2]
    assert {each[:2] for each in lines} == {("x", 4002)}
    assert sorted(lines) == sorted(
        (each.gr_passwd, each.gr_gid, tuple(each.gr_mem)) for each in grp.getgrall() if each.gr_name == "crew"
    )


@behaviour("user.group.name-limit")
def test_longest_name_of_a_group(run: RunCommand, seen: Seen) -> None:
    """groupadd takes a name of 32 characters and refuses 33 with status 3."""
    assert seen([run("groupadd", "g" * size).status for size in (32, 33)]) == [0, 3]
    assert [name for name in (group.name for group in read_group()) if name.startswith("gg")] == ["g" * 32]


@behaviour("user.group.duplicate-exit-status")
def test_group_that_is_there(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """groupadd ends with 9 for a name in use and with 4 for a gid in use without -o."""
    add_lines(group="crew:x:4002:\n")
    statuses = [
        run("groupadd", *words).status for words in (["crew"], ["-g", "4002", "other"], ["-og", "4002", "other"])
    ]
    assert seen(statuses) == [9, 4, 0]
    assert [group.name for group in read_group() if group.gid == 4002] == ["crew", "other"]


@behaviour("user.shadow.nine-fields")
def test_shadow_line_has_nine_fields(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """A line of shadow has nine fields, the last reserved; impl reads what getent prints."""
    line = "ada:*:20000:1:99999:7:14:21000:5"
    add_lines(passwd=ADA, shadow=line + "\n")
    entry = read_shadow()[-1]
    assert seen(entry[:9]) == ("ada", "*", 20000, 1, 99999, 7, 14, 21000, "5")
    printed = run("getent", "shadow", "ada").out.strip().split(":")
    assert printed == line.split(":")


@behaviour("user.shadow.days-since-epoch")
def test_dates_are_days(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """Dates are days since 1970-01-01, and an empty field means never, not 0."""
    add_lines(passwd=ADA, shadow="ada:*:20000:0:99999:7::20100:\n")
    entry = read_shadow()[-1]
    assert entry.last_change is not None
    assert entry.expires is not None
    dates = [datetime.date(1970, 1, 1) + datetime.timedelta(days=days) for days in (entry.last_change, entry.expires)]
    assert seen([*dates, entry.inactive]) == [datetime.date(2024, 10, 4), datetime.date(2025, 1, 12), None]
    said = run("chage", "-l", "ada").out
    for text in ("Oct 04, 2024", "Jan 12, 2025"):
        assert text in said
    assert "Password inactive\t\t\t\t\t: never" in said


@behaviour("user.shadow.zero-last-change")
def test_password_that_must_be_changed(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """A last change of 0 says that the password must be changed."""
    add_lines(passwd=ADA, shadow="ada:*:0:0:99999:7:::\n")
    said = run("chage", "-l", "ada").out.splitlines()[0]
    assert seen([read_shadow()[-1].must_change, said.rpartition(":")[2].strip()]) == [True, "password must be changed"]


@behaviour("user.shadow.not-world-readable")
def test_shadow_is_for_root(in_child: InChild, seen: Seen) -> None:
    """An ordinary user cannot open /etc/shadow: EACCES."""

    def read() -> str:
        os.setresuid(1000, 1000, 1000)
        return seen.errno_of(read_shadow)

    assert Path("/etc/shadow").stat().st_mode & 0o007 == 0
    assert len(read_shadow()) > 0
    assert seen(in_child(read)) == "EACCES"
