"""JSON records of users: impl reads the directories, and the C library or userdbctl is asked for the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.user import (
    Files,
    Machine,
    RecordError,
    Records,
    Userdb,
    View,
    is_valid_name,
    name_problems,
    parse_nsswitch,
    parse_user_record,
    read_machine,
)

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddLines, AddRecord, RunCommand

DIRECTORY = Path("/etc/userdb")


@behaviour("user.userdb.file-name")
def test_record_by_name_and_by_uid(add_record: AddRecord, run: RunCommand, seen: Seen) -> None:
    """A record is the file NAME.user, found by uid through the link UID.user."""
    add_record(userName="ada", uid=4001, homeDirectory="/records")
    by_name, by_uid = Userdb().user("ada"), Userdb().user_by_uid(4001)
    assert by_name is not None
    assert by_uid is not None
    line = "ada:x:4001:4001:ada:/records:"
    assert run("getent", "passwd", "ada", "4001").out.splitlines() == [f"{line}{by_name.user.shell}"] * 2
    (DIRECTORY / "4001.user").unlink()
    gone = Userdb().user_by_uid(4001)
    assert seen([by_name.user.uid, by_uid.user.name, gone, run("getent", "passwd", "4001").status]) == [
        4001,
        "ada",
        None,
        2,
    ]


@behaviour("user.userdb.directories")
@pytest.mark.parametrize("directory", ["/etc/userdb", "/run/userdb", "/run/host/userdb", "/usr/lib/userdb"])
def test_directories_of_records(add_record: AddRecord, run: RunCommand, directory: str, seen: Seen) -> None:
    """Records are read from the userdb directory under /etc, /run, /run/host and /usr/lib."""
    add_record(directory, userName="ada", uid=4001, homeDirectory="/records")
    record = Userdb().user("ada")
    assert record is not None
    assert record.source == f"{directory}/ada.user"
    assert seen(run("getent", "passwd", "ada").out.split(":")[:6]) == ["ada", "x", "4001", "4001", "ada", "/records"]


@behaviour("user.userdb.privileged-companion")
def test_hashes_are_in_a_companion(add_record: AddRecord, in_child: InChild, seen: Seen) -> None:
    """Hashes are in NAME.user-privileged, which root alone can read, and not in NAME.user."""
    add_record(userName="ada", uid=4001)
    companion = DIRECTORY / "ada.user-privileged"
    companion.touch(0o600)
    companion.write_text(json.dumps({"privileged": {"hashedPassword": ["$y$hash"]}}))

    def as_user() -> list[object]:
        os.setresuid(1000, 1000, 1000)
        record = Userdb().user("ada")
        assert record is not None
        return [list(record.hashed_passwords), seen.errno_of(lambda: Userdb().user("ada", privileged=True))]

    record = Userdb().user("ada", privileged=True)
    assert record is not None
    assert seen([list(record.hashed_passwords), in_child(as_user)]) == [["$y$hash"], [[], "EACCES"]]
    assert "hash" not in (DIRECTORY / "ada.user").read_text()


@behaviour("user.userdb.files-win")
def test_record_does_not_override(add_record: AddRecord, add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """A record does not override an entry of passwd of the same name."""
    add_lines(passwd="ada:x:4001:4001::/files:/bin/sh\n")
    add_record(userName="ada", uid=4005, homeDirectory="/records")
    nsswitch = parse_nsswitch(Path("/etc/nsswitch.conf").read_text())
    user = View({"files": Files(), "systemd": Records(Userdb())}, nsswitch).user("ada")
    assert user is not None
    assert seen([user.uid, user.home, run("getent", "passwd", "ada").out.split(":")[5]]) == [4001, "/files", "/files"]


@behaviour("user.userdb.number-range")
@pytest.mark.parametrize("number", [2**53 + 1, 2**64 - 1, 2**63], ids=["2^53+1", "2^64-1", "2^63"])
def test_whole_numbers_are_kept(add_record: AddRecord, run: RunCommand, number: int, seen: Seen) -> None:
    """A whole number up to 2^64-1 is read without loss."""
    add_record(userName="ada", uid=4001, diskSize=number)
    record = Userdb().user("ada")
    assert record is not None
    shown = json.loads(run("userdbctl", "--output=json", "user", "ada").out)
    assert seen([record.fields()["diskSize"] == number, shown["diskSize"] == number]) == [True, True]


@behaviour("user.userdb.per-machine-match")
def test_settings_for_one_machine(add_record: AddRecord, run: RunCommand, seen: Seen) -> None:
    """What perMachine says holds where the machine's id or host name matches, else the field at the top."""
    here = read_machine()
    assert here.machine_id
    sections = {
        "ada": [{"matchMachineId": here.machine_id, "shell": "/bin/here"}],
        "bob": [{"matchMachineId": "0" * 31 + "1", "shell": "/bin/here"}],
        "eve": [{"matchHostname": here.hostname, "shell": "/bin/here"}],
    }
    for number, (name, per_machine) in enumerate(sections.items(), 4001):
        fields = {"userName": name, "uid": number, "shell": "/bin/top", "perMachine": per_machine}
        add_record(**fields)
    records = [Userdb(machine=here).user(name) for name in sections]
    shells = [record.user.shell for record in records if record is not None]
    elsewhere = Userdb(machine=Machine("0" * 31 + "2", "elsewhere")).user("ada")
    assert elsewhere is not None
    assert elsewhere.user.shell == "/bin/top"
    assert seen(shells) == ["/bin/here", "/bin/top", "/bin/here"]
    assert [line.split(":")[6] for line in run("getent", "passwd", *sections).out.splitlines()] == shells


@pytest.mark.parametrize(
    ("name", "uid", "is_good"),
    [
        pytest.param(name, uid, good, marks=behaviour(statement), id=label)
        for statement, name, uid, good, label in (
            ("user.names.sysusers-strict", "Ada_L-1", "4001", True, "good"),
            ("user.names.sysusers-strict", "u" * 31, "4001", True, "31"),
            ("user.names.sysusers-strict", "u" * 32, "4001", False, "32"),
            ("user.names.sysusers-strict", "1ada", "4001", False, "digit"),
            ("user.names.sysusers-strict", "a.b", "4001", False, "dot"),
            ("user.names.sysusers-placeholders", "ada", "65535", False, "65535"),
            ("user.names.sysusers-placeholders", "ada", "4294967295", False, "4294967295"),
        )
    ],
)
def test_sysusers(run: RunCommand, tmp_path: Path, name: str, uid: str, is_good: bool, seen: Seen) -> None:
    """systemd-sysusers takes names by the strict rules, and no id that is a placeholder; impl judges alike."""
    config = tmp_path / "test.conf"
    config.write_text(f'u {name} {uid} "a user"\n')
    status = run("systemd-sysusers", str(config)).status
    assert seen(status == 0) == is_good
    assert (Files().user(name) is not None) == is_good
    if uid == "4001":
        assert is_valid_name(name, "strict") == is_good
        assert bool(name_problems(name, "strict")) != is_good
    else:
        with pytest.raises(RecordError, match=f"uid {uid} is no user or group id"):
            parse_user_record(json.dumps({"userName": name, "uid": int(uid)}))
