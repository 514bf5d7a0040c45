"""nsswitch.conf, and the view of several services that obeys it."""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
from pathlib import Path

import pytest

from kernelproof.impl.user import (
    Files,
    Group,
    NoMatchingEntryError,
    Nss,
    ParseError,
    Records,
    User,
    UserDatabaseError,
    Userdb,
    View,
    parse_nsswitch,
)

FIXTURES = Path(__file__).parents[3] / "fixtures/user"


def test_services_and_actions() -> None:
    """Services come in order, each with what to do after each status."""
    parsed = parse_nsswitch("# comment\npasswd: files [NOTFOUND=return !UNAVAIL=continue]systemd # end\n")
    files, systemd = parsed.services("passwd")
    assert (files.name, systemd.name) == ("files", "systemd")
    assert [files.action(each) for each in ("success", "notfound", "unavail", "tryagain")] == [
        "continue",
        "continue",
        "continue",
        "continue",
    ]
    assert [systemd.action(each) for each in ("success", "notfound")] == ["return", "continue"]
    assert parse_nsswitch("passwd: files [notfound=RETURN]").services("passwd")[0].action("notfound") == "return"


def test_recorded_file() -> None:
    """The file of a Debian 13 names the files for users, and other databases beside them."""
    parsed = parse_nsswitch((FIXTURES / "debian-13/nsswitch.conf").read_text())
    assert not parsed.diagnostics
    assert [each.name for each in parsed.services("passwd")] == ["files"]
    assert [each.name for each in parsed.services("protocols")] == ["db", "files"]
    assert [each.name for each in parsed.services("netgroup")] == ["nis"]


def test_missing_database_means_the_files() -> None:
    """A database that no line names is looked up in the files; of two lines the last counts."""
    assert [each.name for each in parse_nsswitch("").services("group")] == ["files"]
    assert [each.name for each in parse_nsswitch("group: a\ngroup: b\n").services("group")] == ["b"]


def test_subid_has_one_service() -> None:
    """Several services, an unknown one and none mean the files."""
    assert parse_nsswitch("subid: sss").subid_service() == "sss"
    assert [parse_nsswitch(text).subid_service() for text in ("", "subid: x", "subid: files sss")] == ["files"] * 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("passwd files", "no database and colon"),
        ("pass wd: files", "no database and colon"),
        ("passwd: files [NOTFOUND", "a [ without ]"),
        ("passwd: [NOTFOUND=return] files", "actions before the first service"),
        ("passwd: files [NOTFOUND=stop]", "'NOTFOUND=stop' is no STATUS=action"),
        ("passwd: files [LOST=return]", "'LOST=return' is no STATUS=action"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, reason: str) -> None:
    """Each thing that cannot be read is a diagnostic with its line."""
    parsed = parse_nsswitch(f"\n{text}\n", "/etc/nsswitch.conf")
    assert [(each.line, each.reason) for each in parsed.diagnostics] == [(2, reason)]


class Fake:
    """A service that has what it is given, or an error."""

    def __init__(self, users: tuple[User, ...] = (), groups: tuple[Group, ...] = (), error: int = 0) -> None:
        self._users = users
        self._groups = groups
        self.error = error
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if self.error:
            raise OSError(self.error, os.strerror(self.error))

    def user(self, name: str) -> User | None:
        self._ask()
        return next((each for each in self._users if each.name == name), None)

    def user_by_uid(self, uid: int) -> User | None:
        self._ask()
        return next((each for each in self._users if each.uid == uid), None)

    def users(self) -> tuple[User, ...]:
        self._ask()
        return self._users

    def group(self, name: str) -> Group | None:
        self._ask()
        return next((each for each in self._groups if each.name == name), None)

    def group_by_gid(self, gid: int) -> Group | None:
        self._ask()
        return next((each for each in self._groups if each.gid == gid), None)

    def groups(self) -> tuple[Group, ...]:
        self._ask()
        return self._groups

    def groups_of(self, user: str) -> tuple[int, ...]:
        self._ask()
        return tuple(each.gid for each in self._groups if user in each.members)


ADA, EVE = User("ada", "x", 5, 6), User("eve", "x", 7, 8)
MATH, MATH2 = Group("math", "x", 50, ("ada",)), Group("math", "x", 50, ("eve", "ada"))


@pytest.mark.rule("U+3")
def test_services_are_asked_in_order_until_one_answers() -> None:
    """The first service that has the entry gives it; later ones are not asked."""
    one, two = Fake((ADA,)), Fake((User("ada", "x", 99, 99), EVE))
    view = View({"one": one, "two": two})
    assert view.user("ada") == ADA
    assert two.asked == 0
    assert view.user_by_uid(7) == EVE
    assert view.user("nobody") is None
    assert [user.name for user in view.users()] == ["ada", "eve"]


@pytest.mark.rule("U+3")
def test_actions_are_obeyed() -> None:
    """notfound, unavail and tryagain go on, unless an action says return; a service without a name is unavailable."""
    for error, status in ((0, "NOTFOUND"), (errno.EACCES, "UNAVAIL"), (errno.EAGAIN, "TRYAGAIN")):
        services = {"one": Fake(error=error), "two": Fake((ADA,))}
        assert View(services, parse_nsswitch("passwd: one two")).user("ada") == ADA
        assert View(services, parse_nsswitch(f"passwd: one [{status}=return] two")).user("ada") is None
    missing = parse_nsswitch("passwd: ldap [UNAVAIL=return] two")
    assert View({"two": Fake((ADA,))}, missing).user("ada") is None
    onward = parse_nsswitch("passwd: one [SUCCESS=continue] two")
    assert View({"one": Fake((ADA,)), "two": Fake((EVE,))}, onward).user("ada") is None


@pytest.mark.rule("U+3")
def test_groups_merge() -> None:
    """With SUCCESS=merge the members of both services are joined, duplicates kept; other gids are not joined."""
    rules = parse_nsswitch("passwd: one [SUCCESS=merge] two\ngroup: one [SUCCESS=merge] two")
    view = View({"one": Fake((ADA,), (MATH,)), "two": Fake((), (MATH2,))}, rules)
    found = view.group("math")
    assert found is not None
    assert found.members == ("ada", "eve", "ada")
    other = View({"one": Fake((), (MATH,)), "two": Fake((), (Group("math", "x", 51, ("eve",)),))}, rules)
    assert other.group("math") == MATH
    assert View({"one": Fake((), (MATH,)), "two": Fake()}, rules).group_by_gid(50) == MATH
    with pytest.raises(UserDatabaseError, match="only groups can be merged"):
        view.user("ada")


@pytest.mark.rule("U+3")
def test_groups_of_a_user_come_from_all_services() -> None:
    """Without a line for initgroups all services of group are asked; with one, the first that answers ends it."""
    services = {"one": Fake((ADA,), (MATH,)), "two": Fake((), (Group("art", "x", 60, ("ada",)),))}
    assert View(services).groups_of("ada") == (6, 50, 60)
    named = parse_nsswitch("passwd: one\ngroup: one two\ninitgroups: one two")
    assert View(services, named).groups_of("ada") == (6, 50)
    assert View({"one": Fake((ADA,), error=0), "two": Fake((), (MATH,))}).groups_of("ada") == (6, 50)
    with pytest.raises(NoMatchingEntryError, match="no service of one, two has a user 'eve'"):
        View(services).groups_of("eve")


@pytest.mark.rule("U+3")
def test_files_and_records_of_one_root(tmp_path: Path) -> None:
    """Files come before records, so a record does not replace an entry of passwd; both are read inside the root."""
    (tmp_path / "etc/userdb").mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("ada:x:5:6:::\nbad:x::1:::\n")
    (tmp_path / "etc/group").write_text("math:x:50:ada\n")
    for name, uid in (("ada", 99), ("eve", 1070)):
        record = json.dumps({"userName": name, "uid": uid, "memberOf": ["logic"]})
        (tmp_path / f"etc/userdb/{name}.user").write_text(record)
    (tmp_path / "etc/userdb/logic.group").write_text('{"groupName": "logic", "gid": 51}')
    view = View({"files": Files(root=tmp_path), "systemd": Records(Userdb(root=tmp_path))})
    ada, eve, root = view.user("ada"), view.user("eve"), view.user_by_uid(0)
    assert ada is not None
    assert ada.uid == 5
    assert eve is not None
    assert eve.home == "/home/eve"
    assert root is not None
    assert (root.name, root.home) == ("root", "/root")
    assert view.groups_of("ada") == (6, 50, 51)
    assert view.groups_of("eve") == (1070, 51)
    assert [group.name for group in view.groups()] == ["math", "logic"]
    assert view.group_by_gid(65534) is not None
    with pytest.raises(ParseError):
        view.user("bad")


@pytest.mark.rule("U+3")
def test_missing_files_have_no_entries(tmp_path: Path) -> None:
    """Missing files are empty ones, and root and nobody are made where the records are asked to."""
    files, records = Files(root=tmp_path), Records(Userdb(root=tmp_path))
    assert View({"files": files}).user("root") is None
    both = View({"files": files, "systemd": records})
    assert [user.uid for user in (both.user("root"), both.user("nobody")) if user] == [0, 65534]
    assert Records(Userdb(root=tmp_path), synthesize=False).user("root") is None
    assert files.groups() == ()


@pytest.mark.rule("U+3")
def test_nss_answers_as_the_c_library() -> None:
    """NSS, where it is named, gives what pwd and grp give."""
    nss = Nss()
    root = nss.user("root")
    assert root is not None
    assert (root.uid, root.home) == (0, "/root")
    assert nss.user_by_uid(0) == root
    assert nss.user("no-such-user") is None
    group = nss.group_by_gid(0)
    assert group is not None
    assert nss.group(group.name) == group
    assert group in nss.groups()
    assert root in nss.users()
    assert nss.groups_of("no-such-user") == ()


@pytest.mark.rule("U+3")
def test_nss_leaves_out_what_no_file_could_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """An odd entry of NSS is left out with a diagnostic, and all others are there; who is in its group has the gid."""
    users = [
        ("ada", "x", 1000, 1000, "", "/", ""),
        ("-odd", "x", 1001, 1001, "", "/", ""),
        ("eve", "x", 9, 9, "", "", ""),
    ]
    groups = [("one", "x", 1, ["ada"]), ("big,team", "x", 2, ["ada"]), ("none", "x", 2**32 - 1, ["ada"])]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(grp, "getgrall", lambda: groups)
    nss = Nss()
    assert [user.name for user in nss.users()] == ["ada", "eve"]
    assert [group.name for group in nss.groups()] == ["one"]
    assert nss.groups_of("ada") == (1, 2)
    (odd,) = nss.read_users().diagnostics
    assert str(odd).startswith("NSS users:2:1: entry: user name '-odd' cannot begin a line")
    assert [each.name for each in nss.read_groups().diagnostics] == ["big,team", "none"]


@pytest.mark.rule("U10")
def test_nss_refuses_in_another_root() -> None:
    """NSS made before a change of root or mount namespace answers no more after it."""
    where = [("root", 1)]
    nss = Nss(lambda: tuple(where))
    assert nss.user("root") is not None
    where[0] = ("container", 2)
    asks = (
        lambda: nss.user("root"), lambda: nss.user_by_uid(0), nss.users, lambda: nss.group("root"),
        lambda: nss.group_by_gid(0), nss.groups, lambda: nss.groups_of("root"),
    )  # fmt: skip
    for ask in asks:
        with pytest.raises(UserDatabaseError, match="another root or mount namespace"):
            ask()
