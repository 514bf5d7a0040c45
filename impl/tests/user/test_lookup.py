"""Look-ups: what the whole reading would find, and errors that say where."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl import user
from kernelproof.impl.user import (
    GROUP,
    PASSWD,
    Group,
    IdRangeError,
    NoMatchingEntryError,
    Parsed,
    ParseError,
    TooLargeError,
    User,
    parse_group,
    parse_passwd,
)
from kernelproof.impl.user.search import find_id, find_name, groups_listing, supplementary_gids
from kernelproof.impl.user.tables import LINE_LIMIT

PASSWD_TEXT = "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/zsh\neve:x:1000:7:::\nada:x:0:0:::\n"
GROUP_TEXT = "root:x:0:\nada:x:1000:\nmath:x:50:eve,ada\nlogic:x:51:ada\nstaff:x:52:ada2,xada\nmore:x:50:ada\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A directory with passwd and group."""
    (tmp_path / "passwd").write_text(PASSWD_TEXT)
    (tmp_path / "group").write_text(GROUP_TEXT)
    return tmp_path


def test_first_entry_counts(etc: Path) -> None:
    """Of two lines with one name or one id, the first is found."""
    assert user.lookup_user("ada", etc / "passwd").uid == 1000
    assert user.lookup_uid(1000, etc / "passwd").name == "ada"
    assert user.lookup_group("math", etc / "group").gid == 50
    assert user.lookup_gid(50, etc / "group").name == "math"
    assert user.lookup_user("ada", etc / "passwd").line == 2


def test_no_entry_names_file_and_key(etc: Path) -> None:
    """What is not there is a LookupError with the file's name."""
    with pytest.raises(NoMatchingEntryError, match=r"no matching entries in passwd file .*passwd: user 'nobody'"):
        user.lookup_user("nobody", etc / "passwd")
    with pytest.raises(LookupError, match=r"no matching entries in group file .*group: group 'nogroup'"):
        user.lookup_group("nogroup", etc / "group")
    with pytest.raises(LookupError, match="gid 5"):
        user.lookup_gid(5, etc / "group")
    with pytest.raises(FileNotFoundError):
        user.lookup_user("ada", etc / "missing")


@pytest.mark.rule("U10")
def test_id_without_entry_says_which_line_would_make_one(etc: Path) -> None:
    """The error for an unknown uid has the line to be added, and that line gives the entry."""
    with pytest.raises(NoMatchingEntryError, match="uid 4242") as caught:
        user.lookup_uid(4242, etc / "passwd")
    line = caught.value.__notes__[0].rpartition(": ")[2]
    with (etc / "passwd").open("a") as file:
        file.write(line + "\n")
    assert user.lookup_uid(4242, etc / "passwd").gid == 4242


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32])
def test_number_that_is_no_id(etc: Path, number: int) -> None:
    """Asking for a number out of range is an error, not "no entry"."""
    with pytest.raises(IdRangeError):
        user.lookup_uid(number, etc / "passwd")
    with pytest.raises(IdRangeError):
        user.lookup_gid(number, etc / "group")


def peer_lookup(text: str, name: str) -> int:
    """Skip lines that cannot be read, and take the next of that name."""
    return next(entry.uid for entry in parse_passwd(text) if entry.name == name)


def our_lookup(text: str, name: str) -> int:
    entry = find_name(PASSWD, text, name, "/etc/passwd")
    assert entry is not None
    return entry.uid


@pytest.mark.rule("U2", ours=our_lookup, wrong=peer_lookup, raises=pytest.fail.Exception)
@pytest.mark.parametrize("line", ["ada", "ada\r", "  ada:x::5:::", "ada:x:1O00:5:::"])
def test_bad_line_is_refused_by_name(line: str, subject: Callable[[str, str], int]) -> None:
    """A name whose first line has no id is an error with file and line; a later line does not take its place."""
    with pytest.raises(ParseError, match=r"/etc/passwd:2:\d+: uid"):
        subject(f"root:x:0:0:::\n{line}\nada:x:0:0:::\n", "ada")


def test_names_that_no_line_has() -> None:
    """A name with a separator, an empty one, and one that would be a comment are found nowhere."""
    for name in ("", "a:b", "a\nb", "#a", "+a", " a", "root:x"):
        assert find_name(PASSWD, "#a:x:1:1:::\n+a:x:2:2:::\na:b:3:3:::\n a:x:4:4:::\n", name, "t") is None


def test_members_and_supplementary_groups(etc: Path) -> None:
    """Groups that list a user come in the order of the file, each id once; part of a name does not count."""
    assert [group.name for group in groups_listing(GROUP_TEXT, "ada", "t")] == ["math", "logic", "more"]
    assert supplementary_gids(GROUP_TEXT, "ada", "t") == (50, 51)
    assert user.user_groups("ada", etc / "passwd", etc / "group") == (1000, 50, 51)
    assert user.group_members("math", etc / "passwd", etc / "group") == ("eve", "ada")
    assert user.group_members("ada", etc / "passwd", etc / "group") == ("ada",)


def test_groups_that_name_each_other_end(tmp_path: Path) -> None:
    """A cycle of groups is a list of names and no way into another group."""
    (tmp_path / "passwd").write_text("a:x:1:1:::\n")
    (tmp_path / "group").write_text("a:x:5:b,a\nb:x:6:a\n")
    assert user.group_members("a", tmp_path / "passwd", tmp_path / "group") == ("b", "a")
    assert user.user_groups("a", tmp_path / "passwd", tmp_path / "group") == (1, 5, 6)


def test_groups_of_a_user_are_not_guessed() -> None:
    """A line over the limit may list the user, so the groups are an error and not the others."""
    with pytest.raises(TooLargeError):
        groups_listing(f"a:x:5:ada\nb:x:6:{'x' * (1 << 20)},ada\n", "ada", "t")
    longest = "b:x:6:ada," + "x" * (LINE_LIMIT - len("b:x:6:ada,"))
    assert [group.name for group in groups_listing(f"{longest}\n", "ada", "t")] == ["b"]


def test_current_user_and_group(tmp_path: Path) -> None:
    """The current user and group are those of the real ids."""
    (tmp_path / "passwd").write_text(f"other:x:{os.getuid() + 1}:0:::\nme:x:{os.getuid()}:5:::\n")
    (tmp_path / "group").write_text(f"other:x:{os.getgid() + 1}:\nus:x:{os.getgid()}:\n")
    assert user.current_user(tmp_path / "passwd").name == "me"
    assert user.current_group(tmp_path / "group").name == "us"


def test_paths_and_files_of_2014(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths are the system's, and the files open for reading."""
    assert (user.get_passwd_path(), user.get_group_path()) == ("/etc/passwd", "/etc/group")
    with monkeypatch.context() as patched:
        patched.setattr(os, "name", "nt")
        with pytest.raises(user.ErrUnsupported):
            user.get_passwd_path()
    with user.get_passwd(etc / "passwd") as passwd, user.get_group("group", root=etc) as group:
        assert len(parse_passwd(passwd)) == 4
        assert len(parse_group(group)) == 6


def test_name_that_stands_everywhere_is_found() -> None:
    """A name or number that is part of every line is found as well as a rare one."""
    lines = [f"user{each}:x:{1000 + each}:100:bin:/home/bin:/usr/bin/x\n" for each in range(200)]
    text = "".join([*lines, "bin:x:2:2:::\n", " x:x:1:1:::\r\n"])
    for name, line in (("bin", 201), ("x", 202), ("user7", 8)):
        entry = find_name(PASSWD, text, name, "t")
        assert entry is not None
        assert entry.line == line
    for number, line in ((2, 201), (1, 202), (1007, 8)):
        entry = find_id(PASSWD, text, number, "t")
        assert entry is not None
        assert entry.line == line
    assert find_name(PASSWD, text, "home", "t") is None
    assert find_id(PASSWD, text, 100, "t") is None


def test_nothing_after_the_answer_is_read() -> None:
    """A look-up takes no more blocks than it needs."""

    def blocks() -> Iterator[str]:
        yield "ada:x:5:6:::\n"
        raise AssertionError("read on")

    entry = find_name(PASSWD, blocks(), "ada", "t")
    assert entry is not None
    assert entry.uid == 5


FIELDS = st.sampled_from(["ada", "a", "1", "0", "05", "5", "15", "", "x", "root", "ada2", "4294967295"])
TEXTS = st.lists(
    st.one_of(
        st.tuples(FIELDS, FIELDS, FIELDS, FIELDS, FIELDS).map(":".join),
        st.builds("{}{}:x:{}:{}{}".format, st.sampled_from(["", " ", "\t", "#"]), FIELDS, FIELDS, FIELDS,
                  st.sampled_from(["", "\r", ":::", ",ada", ", ada\r"])),
        st.sampled_from(["ada", "ada\r", " ada", "", "0:", ":0:"]),
    ),
    max_size=10,
).map("\n".join)  # fmt: skip


def found_line(find: Callable[[], User | Group | None]) -> int | str | None:
    try:
        entry = find()
    except ParseError:
        return "refused"
    return None if entry is None else entry.line


def whole_search(parsed: Parsed[User] | Parsed[Group], name: str) -> int | str | None:
    """What reading everything says about a name: a line number, a refusal, or nothing."""
    if not name:
        return None
    used = next((entry.line for entry in parsed if entry.name == name), None)
    bad = next((each.line for each in parsed.diagnostics if each.name == name and not each.kept), None)
    if bad is not None and (used is None or bad < used):
        return "refused"
    return used


@given(TEXTS, FIELDS, st.integers(0, 20), st.booleans())
def test_searching_finds_what_reading_finds(text: str, name: str, number: int, ends: bool) -> None:
    """Searching a text for a name or an id gives what reading all of it gives."""
    text += "\n" if ends else ""
    assert found_line(lambda: find_name(PASSWD, text, name, "t")) == whole_search(parse_passwd(text), name)
    assert found_line(lambda: find_name(GROUP, text, name, "t")) == whole_search(parse_group(text), name)
    blocks = text.splitlines(keepends=True) if "\r" not in text else [text]
    assert found_line(lambda: find_name(PASSWD, blocks, name, "t")) == whole_search(parse_passwd(text), name)
    assert find_id(GROUP, blocks, number, "t") == find_id(GROUP, text, number, "t")
    users, groups = parse_passwd(text), parse_group(text)
    assert find_id(PASSWD, text, number, "t") == next((each for each in users if each.uid == number), None)
    assert find_id(GROUP, text, number, "t") == next((each for each in groups if each.gid == number), None)
    assert groups_listing(text, name, "t") == tuple(each for each in groups if name in each.members)


@pytest.mark.skipif(sys.platform != "linux", reason="NSS by getent")
def test_the_host_s_files_are_what_nss_says() -> None:
    """For the users of this host's passwd, the C library gives the same ids, home and shell."""
    import pwd  # what others use

    users = user.read_passwd().entries
    assert users
    for each in users:
        entry = user.lookup_user(each.name)
        theirs = pwd.getpwnam(each.name)
        assert (entry.uid, entry.gid, entry.home, entry.shell) == theirs[2:4] + theirs[5:7]


def peer_names_in_root(root: Path) -> str:
    """Ask NSS, and so load pwd."""
    return "import pwd; print(pwd.getpwnam('boxed').pw_uid)"


def our_names_in_root(root: Path) -> str:
    return (
        "from kernelproof.impl import user\n"
        f"print(user.lookup_user('boxed', root={str(root)!r}).uid, user.resolve_user('boxed', root={str(root)!r}).gid)"
    )


@pytest.mark.rule("U10", ours=our_names_in_root, wrong=peer_names_in_root)
def test_nss_is_not_asked(tmp_path: Path, subject: Callable[[Path], str]) -> None:
    """A name of another root is found in its files, and neither pwd nor grp is loaded for it."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("boxed:x:4242:4343:::\n")
    script = f"import sys\n{subject(tmp_path)}\nprint({{'pwd', 'grp'}} & sys.modules.keys())"
    # -S and -I: what site loads is not ours.
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path = {paths!r}\n{script}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["4242 4343", "set()"], done.stderr
