"""What systemd's records of users and groups may hold, and which names they may have."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.user import RecordError, Userdb, name_problems, parse_user_record

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddRecord, RunCommand

DIRECTORY = Path("/etc/userdb")
REFUSED = ["-5", "a\x01b", "a:b", "a/b", ".", "..", " a", "a ", os.fsdecode(b"a\xffb")]
TAKEN = ["Ada Lovelace", "ada.l", "ädä", "-a", "9a", "u" * 40]


@behaviour("user.names.systemd-relaxed")
def test_relaxed_names(add_record: AddRecord, run: RunCommand, seen: Seen) -> None:
    """userdbctl refuses to look for a name that the relaxed rules refuse; a record with digits for a name is none."""
    asked = subprocess.run(
        ["userdbctl", "user", "--", *REFUSED, *TAKEN],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60,
    )  # fmt: skip
    lines = asked.stdout.splitlines()
    for name in REFUSED:
        assert b"Failed to find user %b: Invalid argument" % os.fsencode(name) in lines
    for name in TAKEN:
        assert b"User %b does not exist." % os.fsencode(name) in lines
    assert [name for name in (*REFUSED, *TAKEN, "77") if name_problems(name, "relaxed")] == [*REFUSED, "77"]
    for number, name in ((4001, "77"), (4002, "ada")):
        add_record(userName=name, uid=number)
    assert seen([line.split(":")[0] for line in run("getent", "passwd", "4001", "4002").out.splitlines()]) == ["ada"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty", marks=behaviour("user.userdb.membership-file")),
        pytest.param("no JSON", id="not-read", marks=behaviour("user.userdb.membership-content")),
    ],
)
def test_membership(add_record: AddRecord, run: RunCommand, content: str, seen: Seen) -> None:
    """The file ada:crew.membership makes ada a member of crew, whatever is in it; without it she is none."""
    add_record(userName="ada", uid=4001)
    (DIRECTORY / "crew.group").write_text(json.dumps({"groupName": "crew", "gid": 4100}))
    (DIRECTORY / "4100.group").symlink_to("crew.group")
    before = Userdb().memberships()
    (DIRECTORY / "ada:crew.membership").write_text(content)
    group = Userdb().group("crew")
    assert group is not None
    assert group.group.members == ("ada",)
    assert [before, Userdb().memberships()] == [(), (("ada", "crew"),)]
    assert seen("4100" in run("id", "-G", "ada").out.split())


@behaviour("user.userdb.only-user-name-mandatory")
def test_record_of_a_name(run: RunCommand, seen: Seen) -> None:
    """A record that has userName alone is found; one with anything but a userName is not, and impl names what lacks."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / "ada.user").write_text(json.dumps({"userName": "ada"}))
    (DIRECTORY / "bob.user").write_text(json.dumps({"uid": 4002, "realName": "Bob", "homeDirectory": "/b"}))
    (DIRECTORY / "4002.user").symlink_to("bob.user")
    with pytest.raises(RecordError, match="no userName"):
        parse_user_record('{"uid": 4002}')
    with pytest.raises(RecordError, match="no uid, so it is no user of this system"):
        parse_user_record('{"userName": "ada"}')
    found = run("getent", "passwd", "ada", "bob", "4002").out.splitlines()
    assert seen([line.split(":")[0] for line in found]) == ["ada"]


@behaviour("user.userdb.real-name-characters")
@pytest.mark.parametrize("name", [pytest.param("a:b", id="colon"), pytest.param("a\nb", id="line")])
def test_real_name(add_record: AddRecord, run: RunCommand, name: str, seen: Seen) -> None:
    """A real name that would split a line of passwd does not come through as it is; impl takes no such record."""
    add_record(userName="ada", uid=4001, realName=name, homeDirectory="/records")
    with pytest.raises(RecordError, match="realName"):
        Userdb().user("ada")
    lines = [line.split(":") for line in run("getent", "passwd", "4001").out.splitlines()]
    assert seen([[len(fields), fields[5]] for fields in lines]) in ([], [[7, "/records"]])


@behaviour("user.userdb.secret-never-persisted")
def test_record_of_a_home_area(run: RunCommand, monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    """The record of a new home area has a hash of its password, and neither a section status nor one called secret."""
    password = "Correct-horse-7"
    monkeypatch.setenv("NEWPASSWORD", password)
    assert run("homectl", "create", "ada", "--storage=directory").status == 0
    text = Path("/var/lib/systemd/home/ada.identity").read_text()
    record = json.loads(text)
    assert record["privileged"]["hashedPassword"]
    assert password not in text
    for section in ("secret", "status"):
        with pytest.raises(RecordError, match="never kept on disc"):
            parse_user_record(json.dumps({**record, section: {}}))
    assert seen(sorted(record.keys() & {"secret", "status"})) == []
