"""Lines of passwd: what impl reads from them, and what the C library and commands say of the same lines."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.nss import getpwnam
from kernelproof.impl.user import (
    NoMatchingEntryError,
    Nss,
    ParseError,
    lookup_uid,
    lookup_user,
    read_passwd,
    read_shadow,
    resolve_user,
)

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddLines, RunCommand

PERMIT = "auth sufficient pam_rootok.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
ADA = "ada:x:4001:4002:Ada Lovelace,,,:/home/ada:/bin/sh\n"


@behaviour("user.passwd.seven-fields")
def test_line_has_seven_fields(add_lines: AddLines, seen: Seen) -> None:
    """A line's seven fields are name, password, uid, gid, comment, home and shell, for impl and for the C library."""
    add_lines(passwd=ADA)
    user = lookup_user("ada")
    fields = (user.name, user.password, user.uid, user.gid, user.gecos, user.home, user.shell)
    assert seen(fields) == ("ada", "x", 4001, 4002, "Ada Lovelace,,,", "/home/ada", "/bin/sh")
    assert fields == tuple(pwd.getpwnam("ada"))


@behaviour("user.passwd.empty-shell")
def test_empty_shell(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """su to a user without shell runs /bin/sh; a look-up returns the field empty, and resolve_user gives /bin/sh."""
    add_lines(passwd="ada:x:4001:4002::/:\n", shadow="ada:*:20000:0:99999:7:::\n", group="ada:x:4002:\n")
    for service in ("su", "other"):  # PAM refuses all if it cannot read the second
        Path("/etc/pam.d", service).write_text(PERMIT)
    assert [lookup_user("ada").shell, resolve_user("ada").shell] == ["", "/bin/sh"]
    assert seen(run("su", "ada", "-c", "readlink /proc/$$/exe; id -u").out.split()) == ["/usr/bin/dash", "4001"]


@behaviour("user.passwd.locked-prefix")
def test_locked_password(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """A password that begins with an exclamation mark is locked, and the rest is the hash from before."""
    add_lines(passwd=ADA, shadow="ada:$y$j9T$salt$hash:20000:0:99999:7:::\n")
    before = read_shadow()[-1]
    assert run("usermod", "-L", "ada").status == 0
    after = read_shadow()[-1]
    assert seen([before.is_locked, after.is_locked]) == [False, True]
    assert after.password == "!" + before.password == "!$y$j9T$salt$hash"
    assert run("passwd", "-S", "ada").out.split()[:2] == ["ada", "L"]


@behaviour("user.passwd.gecos-arbitrary-bytes")
def test_comment_of_any_bytes(add_lines: AddLines, seen: Seen) -> None:
    """A line whose comment holds bytes that are no ASCII, C1 controls too, is found, with these bytes unchanged."""
    comment = b"J\xf6rg \x9b\x85 \xff\xfe".decode("utf-8", "surrogateescape")
    add_lines(passwd=f"ada:x:4001:4002:{comment}:/home/ada:/bin/sh\n")
    found = [lookup_user("ada").gecos, lookup_uid(4001).gecos, pwd.getpwnam("ada").pw_gecos]
    assert seen([each.encode("utf-8", "surrogateescape").hex() for each in found]) == ["4af67267209b8520fffe"] * 3


@behaviour("user.passwd.gecos-ampersand")
def test_ampersand_is_the_name(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """An ampersand in the comment is shown as the login name with a capital first letter."""
    add_lines(passwd="ada:x:4001:4002:Countess & of X,,,:/home/ada:/bin/sh\n")
    shown = next(line for line in run("pinky", "-l", "ada").out.splitlines() if "real life" in line)
    assert seen([lookup_user("ada").real_name, shown.rpartition(":")[2].strip()]) == ["Countess Ada of X"] * 2


@behaviour("user.passwd.not-found-is-not-error")
def test_unknown_name_is_no_error(seen: Seen) -> None:
    """getpwnam_r for an unknown name returns 0 and no result; Nss returns None, and a look-up in the file says so."""
    assert seen([getpwnam("nobody-has-this-name"), Nss().user("nobody-has-this-name")]) == [None, None]
    with pytest.raises(NoMatchingEntryError):
        lookup_user("nobody-has-this-name")
    assert getpwnam("root") == tuple(pwd.getpwnam("root"))
    root = Nss().user("root")
    assert root is not None
    assert root.uid == 0


@behaviour("user.passwd.buffer-erange")
def test_buffer_without_room(add_lines: AddLines, seen: Seen) -> None:
    """getpwnam_r with a buffer that is too small gives ERANGE, and the entry with a larger one; Nss finds the room."""
    add_lines(passwd=f"ada:x:4001:4002:{'x' * 5000}:/home/ada:/bin/sh\n")
    answer = seen.errno_of(getpwnam, "ada", size=1024)
    entry = getpwnam("ada", size=16384)
    assert entry is not None
    assert seen([answer, len(entry.gecos)]) == ["ERANGE", 5000]
    user = Nss().user("ada")
    assert user is not None
    assert user.gecos == entry.gecos == lookup_user("ada").gecos


@behaviour("user.passwd.first-of-duplicates")
def test_first_of_two_lines_counts(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """Of two lines with one name or one uid a look-up returns the first, and enumeration returns both."""
    lines = (
        "twin:x:4001:4001:first:/first:/bin/sh\n"
        "twin:x:4002:4002:second:/second:/bin/sh\n"
        "other:x:4001:4003:third:/third:/bin/sh\n"
    )
    add_lines(passwd=lines)
    assert seen([lookup_user("twin").gecos, lookup_uid(4001).gecos]) == ["first", "first"]
    assert run("getent", "passwd", "twin", "4001").out.splitlines() == [lines.splitlines()[0]] * 2
    enumerated = [(user.name, user.uid, user.home) for user in read_passwd() if 4000 < user.uid < 5000]
    assert enumerated == [("twin", 4001, "/first"), ("twin", 4002, "/second"), ("other", 4001, "/third")]
    by_libc = [(each.pw_name, each.pw_uid, each.pw_dir) for each in pwd.getpwall() if 4000 < each.pw_uid < 5000]
    assert enumerated == by_libc


@behaviour("user.passwd.malformed-line-skipped")
@pytest.mark.parametrize(
    "fields",
    [
        "",
        ":x::4002::/:",
        ":x:-1:4002::/:",
        ":x:4294967296:4002::/:",
        ":x:0x10:4002::/:",
        ":x:4001:-1::/:",
        ":x:4001:::/:",
    ],
    ids=["name-only", "empty-uid", "negative-uid", "uid-of-33-bits", "hexadecimal-uid", "negative-gid", "empty-gid"],
)
def test_line_without_numbers(add_lines: AddLines, run: RunCommand, fields: str, seen: Seen) -> None:
    """A line whose uid or gid is no number from 0 to 4294967295 is not found; impl says why, and takes no later one."""
    add_lines(passwd=f"bob{fields}\nada:x:4001:4002::/:\n")
    assert seen(run("getent", "passwd", "bob").status) == 2
    with pytest.raises(ParseError, match=r"/etc/passwd:\d+:\d+: [ug]id"):
        lookup_user("bob")
    assert lookup_user("ada").uid == pwd.getpwnam("ada").pw_uid == 4001
