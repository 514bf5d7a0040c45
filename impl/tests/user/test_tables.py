"""Entries of passwd, group, shadow and subid, and what is said of lines that make none."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kernelproof.impl.user import (
    PASSWD,
    Diagnostic,
    Group,
    Parsed,
    ParseError,
    TooLargeError,
    User,
    UserDatabaseError,
    iterate,
    parse_group,
    parse_group_filter,
    parse_gshadow,
    parse_line,
    parse_passwd,
    parse_passwd_filter,
    parse_shadow,
    parse_subid,
)
from kernelproof.impl.user.tables import whole_text

FIXTURES = Path(__file__).parents[3] / "fixtures/user"

SAMPLE = "\nroot:x:0:0:root:/root:/bin/bash\nadm:x:42:43:adm:/var/adm:/bin/false\nthis is just some garbage data\n"


def names(parsed: Parsed[User]) -> list[tuple[str, int, int]]:
    return [(user.name, user.uid, user.gid) for user in parsed]


# What others do with a number that is none.


def peer_parse_passwd(text: str) -> list[tuple[str, int, int]]:
    """Keep zero where a field is no number, as most container engines did."""

    def number(field: str) -> int:
        return int(field) if field.lstrip("+-").isdigit() else 0

    users = []
    for line in text.split("\n"):
        if line.strip():
            fields = [*line.strip().split(":"), *[""] * 7]
            users.append((fields[0], number(fields[2]), number(fields[3])))
    return users


def our_parse_passwd(text: str) -> list[tuple[str, int, int]]:
    return names(parse_passwd(text))


@pytest.mark.rule("U2", ours=our_parse_passwd, wrong=peer_parse_passwd)
@pytest.mark.parametrize(
    "line",
    [
        "bob",
        "bob:x",
        "bob:x:",
        "bob:x::",
        "bob:x::1000:Bob:/home/bob:/bin/sh",
        "bob:x:1000::Bob:/home/bob:/bin/sh",
        "bob:x:ten:1000:::",
        "bob:x:0x0:1000:::",
        "bob:x:-1:1000:::",
        "bob:x:1000 :1000:::",
        "bob:x:\u0663:1000:::",
        "bob:x:1_000:1000:::",
        "bob:x:1_000:1_000::/:",
        "bob:x:0_0:0_0::/:",
        "bob:x:+5:+5::/:",
        "bob:x: 5: 5::/:",
        "bob:x:-0:-0::/:",
    ],
)
def test_bad_number_makes_no_user(line: str, subject: type) -> None:
    """A passwd line without two numbers makes no user, least of all root."""
    assert subject(f"{line}\nada:x:5:6:::\n") == [("ada", 5, 6)]


def peer_limit_31_bits(text: str) -> list[tuple[str, int, int]]:
    """Take ids up to 2147483647, as container engines do."""
    return [user for user in peer_parse_passwd(text) if max(user[1:]) < 2**31]


@pytest.mark.rule("U3", ours=our_parse_passwd, wrong=peer_limit_31_bits)
def test_ids_reach_from_0_to_4294967294(subject: type) -> None:
    """Every id but the one that means "leave it" is taken."""
    text = "a:x:4294967294:4294967294:::\nb:x:2147483648:0:::\nc:x:4294967295:0:::\nd:x:0:4294967295:::\n"
    assert subject(text) == [("a", 2**32 - 2, 2**32 - 2), ("b", 2**31, 0)]


def peer_scanner(text: str) -> list[tuple[str, int, int]]:
    """Stop at the first line over 64 KiB, as a scanner with a fixed buffer does."""
    kept = []
    for line in text.split("\n"):
        if len(line) > 65536:
            break
        kept.append(line)
    return names(parse_passwd("\n".join(kept)))


@pytest.mark.rule("U4", ours=our_parse_passwd, wrong=peer_scanner)
def test_long_line_does_not_end_the_file(subject: type) -> None:
    """The users after a long line are read."""
    assert subject(f"a:x:1:1:{'g' * 70_000}::\nb:x:2:2:::\n") == [("a", 1, 1), ("b", 2, 2)]


@pytest.mark.rule("U4")
@pytest.mark.parametrize("as_file", [False, True])
def test_line_over_the_limit_is_a_diagnostic(as_file: bool) -> None:
    """A line of 10 MB is not used, is reported by name, and what follows is read; from text and from a file object."""
    text = f"long:x:1:1:{'g' * (10 << 20)}::\nb:x:2:2:::\n"
    found: list[Diagnostic] = []
    users = list(iterate(PASSWD, io.BytesIO(text.encode()) if as_file else text, "passwd", report=found.append))
    assert [(user.name, user.line) for user in users] == [("b", 2)]
    assert [(each.line, each.name, each.kept) for each in found] == [(1, "long", False)]
    assert "longer than the limit of 1048576 characters" in found[0].reason


class Endless(io.RawIOBase):
    """A device that never ends, and counts what was taken from it."""

    def __init__(self, byte: bytes) -> None:
        self.byte = byte
        self.taken = 0

    def read(self, size: int = -1, /) -> bytes:
        assert size > 0
        self.taken += size
        assert self.taken < 64 << 20, "somebody reads without an end"
        return self.byte * size


@pytest.mark.rule("U4")
def test_diagnostics_are_bounded() -> None:
    """Many short bad lines do not become many times their size in diagnostics; those over the limit are counted."""
    parsed = parse_passwd("a\n" * 30_000)
    assert (len(parsed.diagnostics), parsed.unsaid) == (10_000, 20_000)
    with pytest.raises(ExceptionGroup, match="30000 problems"):
        parsed.strict()


@pytest.mark.rule("U4")
@pytest.mark.parametrize("byte", [b"\0", b"\n", b"a", b"\xff"])
def test_endless_file_object_ends(byte: bytes) -> None:
    """A file object that never ends is refused after the limit."""
    limit = "has more than 1000000 lines" if byte == b"\n" else "is longer than the limit of 10485760 characters"
    with pytest.raises(TooLargeError, match=f"passwd data {limit}"):
        parse_passwd(Endless(byte))
    with pytest.raises(TooLargeError):
        whole_text(Endless(byte), "group")


@pytest.mark.rule("U+1")
def test_diagnostics_have_line_column_field_and_reason() -> None:
    """Each line that is not used, or used with a reservation, says where and why."""
    text = (
        "# a comment\n"
        "\n"
        "bob:x::7:::\n"
        "  ada:x:5:6:::\r\n"
        "+@staff\n"
        ":x:1:1:::\n"
        "four:x:7:8\n"
        "nine:x:9:9:a:b:c:d:e\n"
        "nul\0:x:1:1:::\n"
        "1000:x:0:0:::\n"
    )
    parsed = parse_passwd(text, "/etc/passwd")
    assert names(parsed) == [("ada", 5, 6), ("four", 7, 8), ("nine", 9, 9), ("1000", 0, 0)]
    assert [user.line for user in parsed] == [4, 7, 8, 10]
    assert [str(each) for each in parsed.diagnostics] == [
        "/etc/passwd:3:7: uid: empty (entry not used)",
        "/etc/passwd:4:1: name: blanks before the name (entry kept)",
        "/etc/passwd:4:15: line: ends with a carriage return (entry kept)",
        "/etc/passwd:5:1: name: a line for NIS compatibility (entry not used)",
        "/etc/passwd:6:1: name: empty (entry not used)",
        "/etc/passwd:7:10: gecos: missing (entry kept)",
        "/etc/passwd:8:18: line: 9 fields where there are 7 (entry kept)",
        "/etc/passwd:9:4: line: holds a NUL byte (entry not used)",
        "/etc/passwd:10:1: name: looks like a number, and what asks for a number gets the id (entry kept)",
    ]
    assert parsed.refusal("bob") == parsed.diagnostics[0]
    assert parsed.refusal("ada") is None


@pytest.mark.rule("U+1")
def test_strict_raises_everything_at_once() -> None:
    """Strict reading raises all diagnostics as one group, and nothing for a clean file."""
    with pytest.raises(ExceptionGroup, match="/etc/passwd: 2 problems") as caught:
        parse_passwd("bob\nada:x:5:six:::\n", "/etc/passwd", strict=True)
    assert [type(each) for each in caught.value.exceptions] == [ParseError, ParseError]
    assert "/etc/passwd:2:9: gid: 'six' is not a number" in str(caught.value.exceptions[1])
    assert names(parse_passwd("ada:x:5:6:::\n", strict=True)) == [("ada", 5, 6)]


# The assertions of the packages of 2014, where they stand; their bugs mended.


def test_parse_line_as_in_2014() -> None:
    """A line splits into strings, numbers and lists; missing fields are empty."""
    assert parse_line("", str, str) == ("", "")
    assert parse_line("a", str, str) == ("a", "")
    assert parse_line("bad boys:corny cows", str, str) == ("bad boys", "corny cows")
    assert parse_line("", list) == ((),)
    assert parse_line("d,e,f:g:h:i,j,k", list, str, str, list) == (("d", "e", "f"), "g", "h", ("i", "j", "k"))
    assert parse_line("::::::::::", str, str, str) == ("", "", "")
    assert parse_line("b:12:c", str, int, str) == ("b", 12, "c")
    with pytest.raises(ParseError, match="field 1: 'not a number' is not a number"):
        parse_line("not a number", int)


def test_passwd_as_in_2014() -> None:
    """Root and adm are read; the garbage, which was a third user with uid 0, is not."""
    users = parse_passwd_filter(SAMPLE)
    assert [(user.name, user.uid, user.gid) for user in users] == [("root", 0, 0), ("adm", 42, 43)]
    assert (users[0].home, users[0].shell, users[0].gecos) == ("/root", "/bin/bash", "root")
    assert [user.name for user in parse_passwd_filter(SAMPLE, lambda user: user.uid > 0)] == ["adm"]


def test_group_as_in_2014() -> None:
    """Members are split at commas."""
    text = "\nroot:x:0:root\nadm:x:4:root,adm,daemon\nthis is just some garbage data\n"
    groups = parse_group_filter(text)
    assert [(group.name, group.gid, group.members) for group in groups] == [
        ("root", 0, ("root",)),
        ("adm", 4, ("root", "adm", "daemon")),
    ]
    assert [group.gid for group in parse_group_filter(text, lambda group: len(group.members) == 3)] == [4]


@pytest.mark.parametrize(("parse", "kind"), [(parse_passwd, "passwd"), (parse_group, "group")])
def test_no_source(parse: type, kind: str) -> None:
    """Without a source there is an error, not an empty list."""
    with pytest.raises(UserDatabaseError, match=f"no source for {kind}-formatted data"):
        parse(None)


def test_recorded_files_are_what_getent_prints() -> None:
    """The files of a Debian 13 read into what its getent printed, line by line, without a diagnostic."""
    folder = FIXTURES / "debian-13"
    users = parse_passwd((folder / "passwd").read_bytes(), strict=True)
    groups = parse_group((folder / "group").read_bytes(), strict=True)
    assert [user.to_line() for user in users] == (folder / "getent-passwd").read_text().splitlines()
    assert [group.to_line() for group in groups] == (folder / "getent-group").read_text().splitlines()
    assert len(users) > 20
    assert len(groups) > 40


@pytest.mark.parametrize("line", ["a\0da:x:5:6:::", "ada:x:5:6:g\0:/:/bin/sh", "ada:x:5:6:::/bin/sh\0"])
def test_nul_makes_no_entry(line: str) -> None:
    """A line with a NUL byte in any field is not used: whoever passes it on to C cuts it there."""
    assert not parse_passwd(f"{line}\n")
    assert not parse_group(f"{line}\n")


def test_bytes_that_are_no_utf8_are_kept() -> None:
    """Names and comments keep bytes that are no UTF-8, as os.fsdecode does."""
    user = parse_passwd(b"caf\xe9:x:5:6:\x9b\xff:/:/bin/sh\n")[0]
    assert user.name.encode("utf-8", "surrogateescape") == b"caf\xe9"
    assert user.gecos.encode("utf-8", "surrogateescape") == b"\x9b\xff"


def test_only_newlines_end_a_line() -> None:
    """What other programs call a line break stands inside a field."""
    users = parse_passwd("a:x:1:1:one\x0btwo\x85three\u2028four:/h:/s\n")
    assert len(users) == 1
    assert users[0].gecos == "one\x0btwo\x85three\u2028four"


def test_empty_members_are_none() -> None:
    """Empty items, a missing list and blanks after a comma make no members."""
    groups = parse_group("a:x:5:alice,, bob,\nb:x:6:\nc:x:7\n")
    assert [group.members for group in groups] == [("alice", "bob"), (), ()]


def test_real_name_expands_the_ampersand() -> None:
    """An ampersand in the comment stands for the login name with a capital."""
    assert parse_passwd("ada:x:5:6:& Lovelace,Room 1,,:/:\n")[0].real_name == "Ada Lovelace"


def test_shadow_days() -> None:
    """Days are numbers, an empty field is none; 0 asks for a change, "!" locks."""
    parsed = parse_shadow("a:!$6$salt$hash:0::99999:7:::\nb:*:x::::::\nc:$y$::-1:::::\n")
    assert parsed[0][2:8] == (0, None, 99999, 7, None, None)
    assert parsed[0].must_change
    assert parsed[0].is_locked
    assert [entry.name for entry in parsed] == ["a", "c"]
    assert (parsed[1].last_change, parsed[1].minimum, parsed[1].is_locked) == (None, None, False)
    assert "last_change: 'x' is not a number" in str(parsed.diagnostics[0])


def test_hashes_stay_out_of_representations() -> None:
    """A password hash is in no repr."""
    shadow = parse_shadow("a:$6$salt$hash:1::::::\n")[0]
    gshadow = parse_gshadow("g:$6$salt$hash:ada:bob\n")[0]
    user = parse_passwd("a:$6$salt$hash:1:1:::\n")[0]
    group = parse_group("g:$6$salt$hash:1:\n")[0]
    assert {each.password for each in (shadow, gshadow, user, group)} == {"$6$salt$hash"}
    assert not [each for each in (repr(shadow), repr(gshadow), repr(user), repr(group)) if "hash" in each]


def test_gshadow() -> None:
    """A gshadow line has administrators and members."""
    assert parse_gshadow("g:!:ada:bob,eve\n")[0][:4] == ("g", "!", ("ada",), ("bob", "eve"))


def test_subid_ranges_are_checked() -> None:
    """A range has at least one id and ends at 4294967294; the owner may be a number."""
    parsed = parse_subid("ada:100000:65536\n1000:1:0\neve:4294967290:6\nbob:4294967290:5\n7:5:5\nx:y:1\nz:1\n")
    assert [(each.owner, each.start, each.length) for each in parsed] == [
        ("ada", 100000, 65536),
        ("bob", 4294967290, 5),
        ("7", 5, 5),
    ]
    assert [each.line for each in parsed.diagnostics] == [2, 3, 6, 7]
    assert parsed[0].end == 165536


def test_parsed_is_a_sequence() -> None:
    """The result is iterated, indexed, sliced and counted; its repr is short."""
    parsed = parse_passwd(SAMPLE, "sample")
    assert (len(parsed), parsed[1].name, [user.name for user in parsed[:1]]) == (2, "adm", ["root"])
    assert repr(parsed) == "<Parsed sample: 2 entries, 1 diagnostics>"


# Records.


def test_records_are_made_and_checked() -> None:
    """A record made by hand is a line again; what would break the line or the range is refused."""
    user = User("ada", "x", 5, 6, "Ada", "/home/ada", "/bin/sh")
    assert parse_passwd(user.to_line())[0][:3] == user[:3]
    assert User(*user.__getnewargs__()) == user
    assert (user.password, user.line) == ("x", 0)
    group = Group("math", "x", 6, ("ada", "eve"))
    assert parse_group(group.to_line())[0].members == ("ada", "eve")
    assert Group(*group.__getnewargs__()) == group
    for bad in ("a:b", "a\nb", "a\0b", "", "#a", "+a", "-a", " a", "a,b"):
        with pytest.raises(UserDatabaseError):
            User(bad, "x", 5, 6)
        with pytest.raises(UserDatabaseError):
            Group(bad, "x", 6)
    for number in (-1, 2**32 - 1, 2**32):
        with pytest.raises(ValueError, match="0-4294967294"):
            User("ada", "x", number, 6)
        with pytest.raises(ValueError, match="0-4294967294"):
            Group("math", "x", number)
    with pytest.raises(UserDatabaseError, match="would end the field"):
        User("ada", "x", 5, 6, "a\nroot2:x:0:0:::")
    with pytest.raises(UserDatabaseError):
        Group("math", "x", 6, ("a,b",))
    with pytest.raises(UserDatabaseError, match="member without a name"):
        Group("math", "x", 6, ("",))


def test_records_cannot_change() -> None:
    """A record has no attribute to set."""
    user = User("ada", "x", 5, 6)
    with pytest.raises(AttributeError):
        user.uid = 0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        user.other = 0  # type: ignore[attr-defined]


# Properties.
