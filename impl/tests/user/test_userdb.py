"""systemd's records: JSON from directories and from a Varlink service."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.user import (
    Machine,
    RecordError,
    Userdb,
    VarlinkError,
    VarlinkUserdb,
    parse_group_record,
    parse_user_record,
    read_machine,
)

ADA = {"userName": "ada", "uid": 1234, "realName": "Ada", "memberOf": ["math"], "locked": True, "custom": 2**53 + 1}


def user(more: dict[str, Any] | None = None, /, **fields: Any) -> str:
    return json.dumps({**ADA, **(more or {}), **fields})


def test_record_becomes_an_entry() -> None:
    """A record gives ids, names and home; what it leaves out has the documented default."""
    record = parse_user_record(user({"shell": "/bin/zsh"}, gid=50, homeDirectory="/h"))
    assert record.user[1:] == (1234, 50, 0)
    assert (record.user.gecos, record.user.home, record.user.shell) == ("Ada", "/h", "/bin/zsh")
    assert (record.is_locked, record.member_of, record.disposition) == (True, ("math",), "regular")
    plain = parse_user_record('{"userName": "ada", "uid": 1234}')
    assert (plain.user.gid, plain.user.home, plain.user.shell) == (1234, "/home/ada", "/bin/bash")
    assert parse_user_record('{"userName": "d", "uid": 200}').user.shell == "/usr/sbin/nologin"
    root = parse_user_record('{"userName": "root", "uid": 0}').user
    assert (root.home, root.shell) == ("/root", "/bin/sh")


@pytest.mark.parametrize(
    ("uid", "disposition"),
    [(0, "intrinsic"), (65534, "intrinsic"), (1, "system"), (999, "system"), (1000, "regular"), (60577, "regular"),
     (61184, "dynamic"), (65519, "dynamic"), (524288, "container"), (1879048191, "container"), (2**31, "reserved")],
)  # fmt: skip
def test_disposition_follows_the_uid(uid: int, disposition: str) -> None:
    """A record that does not say what kind of user it is, is of the kind that its uid is set aside for."""
    assert parse_user_record(user(uid=uid)).disposition == disposition
    assert parse_user_record(user(uid=uid, disposition="system")).disposition == "system"


def test_names_are_kept_as_they_are_written() -> None:
    """What is kept of a record has its letters, not their numbers."""
    assert '"realName": "Zoë"' in parse_user_record(user(realName="Zoë")).json


@pytest.mark.parametrize("number", [2**53 + 1, 2**64 - 1, -(2**63), 0])
def test_numbers_are_kept_exactly(number: int) -> None:
    """A whole number in a record comes back as it was."""
    assert parse_user_record(user(custom=number)).fields()["custom"] == number


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no JSON"),
        ("[]", "a record is an object, not a list"),
        ("[" * 100_000, "no JSON"),
        ('{"uid": 1}', "no userName"),
        ('{"userName": "ada"}', "no uid"),
        ('{"userName": "ada", "uid": 1, "uid": 0}', "the key 'uid' is there twice"),
        ('{"userName": "ada", "uid": NaN}', "no JSON: NaN"),
        (user(uid="0"), "uid is a str, not a whole number"),
        (user(uid=True), "uid is a bool, not a whole number"),
        (user(uid=0.0), "uid is a float, not a whole number"),
        (user(uid=-1), "uid -1 is no user or group id"),
        (user(uid=2**32 - 1), "uid 4294967295 is no user or group id"),
        (user(uid=65535), "uid 65535 is no user or group id"),
        (user(gid=2**32), "gid 4294967296 is no user or group id"),
        (user(userName="a:b"), "holds a colon or a control character"),
        (user(userName=5), "userName is a int, not a string"),
        (user(userName="a,b"), "would end the field"),
        (user(realName="Ada:root"), "realName 'Ada:root' holds a colon"),
        (user(realName="Ada\nroot2"), "control character"),
        (user(realName="Ada\x07"), "control character"),
        (user(homeDirectory="home"), "is no absolute path"),
        (user(memberOf="math"), "memberOf is no list of strings"),
        (user(perMachine={}), "perMachine is no list of objects"),
        (user(binding=[]), "binding is no object"),
        (user(secret={"password": ["x"]}), "a section 'secret' is never kept on disc"),
        (user(status={}), "a section 'status' is never kept on disc"),
        (user(privileged={"hashedPassword": "x"}), "no list of strings as hashedPassword"),
        (user(privileged=[]), "no list of strings as hashedPassword"),
    ],
)
def test_bad_record_is_refused(text: str, reason: str) -> None:
    """A record that is not valid is an error with its source, never another user."""
    with pytest.raises(RecordError, match=f"/etc/userdb/x.user: .*{reason}"):
        parse_user_record(text, "/etc/userdb/x.user")


def test_fields_for_this_machine_win() -> None:
    """Settings of a machine count on it, by id or by host name, a later section before an earlier one."""
    record = user(
        {"shell": "/bin/a"},
        perMachine=[
            {"matchMachineId": "m1", "shell": "/bin/b"},
            {"matchHostname": ["h1", "h2"], "shell": "/bin/c"},
            {"matchHostname": "h3", "shell": "/bin/d"},
        ],
        binding={"m9": {"shell": "/bin/e", "uid": 4321}},
    )
    shells = {
        machine: parse_user_record(record, machine=Machine(*machine)).user.shell
        for machine in ((None, None), ("m1", None), ("m1", "h2"), ("m2", "h3"), ("m9", "h3"))
    }
    assert list(shells.values()) == ["/bin/a", "/bin/b", "/bin/c", "/bin/d", "/bin/e"]
    assert parse_user_record(record, machine=Machine("m9")).user.uid == 4321


def test_group_record() -> None:
    """A group record gives gid, members and administrators."""
    record = parse_group_record('{"groupName": "math", "gid": 50, "members": ["ada"], "administrators": ["eve"]}')
    assert (record.group.name, record.group.gid, record.group.members) == ("math", 50, ("ada",))
    assert (record.administrators, record.disposition) == (("eve",), "system")
    assert record.fields()["gid"] == 50
    for bad in ('{"groupName": "math"}', '{"gid": 5}', '{"groupName": "g", "gid": 5, "members": [5]}'):
        with pytest.raises(RecordError):
            parse_group_record(bad)


def test_hashes_stay_out_of_representations() -> None:
    """The password hash is in no repr and not in the text that is kept."""
    record = parse_user_record(user(privileged={"hashedPassword": ["$6$hash"]}))
    assert record.hashed_passwords == ("$6$hash",)
    assert "hash" not in repr(record)
    assert "$6$" not in record.json


# Directories.


@pytest.fixture
def userdb(tmp_path: Path) -> Path:
    """A root with two userdb directories."""
    etc, usr = tmp_path / "etc/userdb", tmp_path / "usr/lib/userdb"
    etc.mkdir(parents=True)
    usr.mkdir(parents=True)
    (etc / "ada.user").write_text(user())
    (etc / "1234.user").symlink_to("ada.user")
    (etc / "ada.user-privileged").write_text('{"privileged": {"hashedPassword": ["$6$hash"]}}')
    (usr / "ada.user").write_text(user(uid=1))
    (usr / "eve.user").write_text(json.dumps({"userName": "eve", "uid": 77}))
    (usr / "math.group").write_text('{"groupName": "math", "gid": 50, "members": ["bob"]}')
    (usr / "50.group").symlink_to("math.group")
    (etc / "eve:math.membership").write_text("not read")
    (etc / "bad.membership").touch()
    return tmp_path


def test_records_in_directories(userdb: Path) -> None:
    """A record is found by name, and by id through its link; the first directory counts."""
    found = Userdb(root=userdb)
    ada = found.user("ada")
    assert ada is not None
    assert (ada.user.uid, ada.source) == (1234, "/etc/userdb/ada.user")
    by_uid = found.user_by_uid(1234)
    assert by_uid is not None
    assert by_uid.user == ada.user
    assert found.user("nobody") is None
    assert found.user_by_uid(5) is None
    assert [record.user.name for record in found.users()] == ["ada", "eve"]


def test_memberships_are_files(userdb: Path) -> None:
    """A file named user:group.membership adds a member, whatever is in it."""
    found = Userdb(root=userdb)
    math = found.group("math")
    assert math is not None
    assert math.group.members == ("bob", "eve")
    assert found.memberships() == (("eve", "math"),)
    by_gid = found.group_by_gid(50)
    assert by_gid is not None
    assert by_gid.group == math.group
    assert [record.group.name for record in found.groups()] == ["math"]
    assert found.group("art") is None


def test_privileged_companion_is_read_when_asked(userdb: Path) -> None:
    """Password hashes come from the companion file, and only for who asks."""
    found = Userdb(root=userdb)
    plain, full = found.user("ada"), found.user("ada", privileged=True)
    assert plain is not None
    assert full is not None
    assert (plain.hashed_passwords, full.hashed_passwords) == ((), ("$6$hash",))


def test_record_of_another_user_is_refused(userdb: Path) -> None:
    """A file whose record has another name or id than the file's is an error."""
    (userdb / "etc/userdb/bob.user").symlink_to("ada.user")
    (userdb / "etc/userdb/5.user").symlink_to("ada.user")
    (userdb / "etc/userdb/art.group").symlink_to("../../usr/lib/userdb/math.group")
    found = Userdb(root=userdb)
    with pytest.raises(RecordError, match="the record has the name 'ada', its file is for 'bob'"):
        found.user("bob")
    with pytest.raises(RecordError, match="the record has the uid '1234', its file is for '5'"):
        found.user_by_uid(5)
    with pytest.raises(RecordError, match="'math', its file is for 'art'"):
        found.group("art")


@pytest.mark.parametrize("name", ["../userdb/ada", "a/b", "", "a\0b", ".ada"])
def test_names_are_no_paths(userdb: Path, name: str) -> None:
    """A name that is a path finds nothing."""
    assert Userdb(root=userdb).user(name) is None
    assert Userdb(root=userdb).group(name) is None


def test_links_stay_in_the_root(userdb: Path, tmp_path: Path) -> None:
    """A record that is a link out of the root is not read."""
    (tmp_path.parent / "outside.user").write_text(user(userName="evil", uid=0))
    (userdb / "etc/userdb/evil.user").symlink_to(tmp_path.parent / "outside.user")
    assert Userdb(root=userdb).user("evil") is None


def test_this_machine(tmp_path: Path) -> None:
    """The machine's id and host name are read from files, each None where there is none."""
    (tmp_path / "id").write_text("abc\n")
    assert read_machine("/id", "/hostname", root=tmp_path) == Machine("abc", None)


# Varlink.

Answer = Callable[[dict[str, Any]], Iterable[bytes]]


@contextmanager
def service(path: Path, answer: Answer) -> Iterator[list[dict[str, Any]]]:
    """A service that answers each question on a connection of its own."""
    questions: list[dict[str, Any]] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                data = b""
                while not data.endswith(b"\0"):
                    more = connection.recv(4096)
                    if not more:
                        break
                    data += more
                if data:
                    questions.append(json.loads(data[:-1]))
                    with suppress(BrokenPipeError):  # who asked has gone
                        for part in answer(questions[-1]):
                            connection.sendall(part)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield questions
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def reply(*, more: bool = False, **parameters: Any) -> bytes:
    return json.dumps({"parameters": parameters, **({"continues": True} if more else {})}).encode() + b"\0"


def test_service_is_asked_for_a_user(tmp_path: Path) -> None:
    """The question is the documented one, and the answer's record is read as one on disc, its status left out."""
    record = {**ADA, "status": {"m": {}}}
    with service(tmp_path / "s", lambda _: [reply(record=record, incomplete=False)]) as questions:
        found = VarlinkUserdb(tmp_path / "s", "io.example.Users").user("ada")
        by_uid = VarlinkUserdb(tmp_path / "s", "io.example.Users").user_by_uid(1234)
    assert found is not None
    assert found.user.uid == 1234
    assert by_uid == found
    assert questions == [
        {"method": "io.systemd.UserDatabase.GetUserRecord",
         "parameters": {"userName": "ada", "service": "io.example.Users"}},
        {"method": "io.systemd.UserDatabase.GetUserRecord", "parameters": {"uid": 1234, "service": "io.example.Users"}},
    ]  # fmt: skip


def test_service_lists(tmp_path: Path) -> None:
    """Lists come as several answers, also when they arrive in one piece or byte by byte."""

    def answer(question: dict[str, Any]) -> list[bytes]:
        assert question["more"] is True
        if question["method"].endswith("GetMemberships"):
            return [reply(userName="eve", groupName="math")]
        if question["method"].endswith("GetGroupRecord"):
            groups = [
                reply(more=True, record={"groupName": "math", "gid": 50}),
                reply(record={"groupName": "a", "gid": 5}),
            ]
            return [b"".join(groups)]
        users = reply(more=True, record=ADA) + reply(record={"userName": "eve", "uid": 77})
        return [users[at : at + 1] for at in range(len(users))]

    with service(tmp_path / "s", answer):
        found = VarlinkUserdb(tmp_path / "s")
        assert [record.user.name for record in found.users()] == ["ada", "eve"]
        assert [record.group.name for record in found.groups()] == ["math", "a"]
        assert found.memberships() == (("eve", "math"),)


def test_service_without_the_record(tmp_path: Path) -> None:
    """No record found is None; another error is an error, and so is an answer that is none."""
    answers = iter(
        [
            b'{"error": "io.systemd.UserDatabase.NoRecordFound"}\0',
            b'{"error": "io.systemd.UserDatabase.ServiceNotAvailable"}\0',
            b'{"parameters": []}\0',
            b'{"parameters": {}}\0',
            b"{}",
            b"hello\0",
        ]
    )
    with service(tmp_path / "s", lambda _: [next(answers)]):
        found = VarlinkUserdb(tmp_path / "s")
        assert found.group("math") is None
        with pytest.raises(VarlinkError, match="ServiceNotAvailable"):
            found.group_by_gid(5)
        with pytest.raises(VarlinkError, match="parameters are no object"):
            found.user("ada")
        with pytest.raises(RecordError, match="an answer has no record"):
            found.user("ada")
        with pytest.raises(VarlinkError, match="closed the connection without an answer"):
            found.user("ada")
        with pytest.raises(RecordError, match="no JSON"):
            found.user("ada")


@pytest.mark.parametrize("drips", [0, 5000])
def test_service_that_is_silent(tmp_path: Path, drips: int) -> None:
    """A service that does not answer in time is a TimeoutError, also one that sends a byte now and then."""
    gate = threading.Event()

    def answer(_: dict[str, Any]) -> Iterator[bytes]:
        for _each in range(drips):
            gate.wait(0.02)
            yield b" "
        gate.wait(100)

    with service(tmp_path / "s", answer):
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            VarlinkUserdb(tmp_path / "s", timeout_seconds=0.1).user("ada")
        assert time.monotonic() - start < 60  # and not as long as it drips
        gate.set()


def test_no_service(tmp_path: Path) -> None:
    """Without a socket the system's error comes through."""
    with pytest.raises(FileNotFoundError):
        VarlinkUserdb(tmp_path / "missing").user("ada")
