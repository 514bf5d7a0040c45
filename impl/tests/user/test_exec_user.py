"""`user[:group]`: the rule set of container engines, the assertions of 2014, and the holes since closed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.user import (
    ErrRange,
    ExecUser,
    IdRangeError,
    NoMatchingEntryError,
    NotRegularFileError,
    Origin,
    ParseError,
    additional_groups,
    get_additional_groups_path,
    get_exec_user,
    get_exec_user_path,
    get_user_group_supplementary,
    get_user_group_supplementary_home,
    resolve_user,
)

PASSWD = "root:x:0:0:root user:/root:/bin/bash\nadm:x:42:43:adm:/var/adm:/bin/false\nthis is just some garbage data\n"
GROUP = "root:x:0:root\nadm:x:43:\ngrp:x:1234:root,adm\nthis is just some garbage data\n"
DEFAULTS = ExecUser(8888, 8888, (8888,), "/8888")

Resolve = Callable[[str, str, str], tuple[int, int]]


def ours(spec: str, passwd: str, group: str) -> tuple[int, int]:
    user = get_exec_user(spec, None, passwd, group)
    return user.uid, user.gid


def peer(spec: str, passwd: str, group: str) -> tuple[int, int]:
    """Compare each part with names and with decimal numbers; else read it as a 32-bit number."""
    uid = gid = 0
    user_part, _, group_part = spec.partition(":")
    for line in passwd.splitlines():
        fields = line.split(":")
        if user_part in (fields[0], fields[2]):
            uid, gid = int(fields[2]), int(fields[3])
            break
    else:
        uid = int(user_part) % 2**32
    if group_part:
        matching = [line.split(":")[2] for line in group.splitlines() if group_part in line.split(":")[0:3:2]]
        gid = int(matching[0]) if matching else int(group_part) % 2**32
    return uid, gid


@pytest.mark.rule("U1", ours=ours, wrong=peer, raises=pytest.fail.Exception)
@pytest.mark.parametrize("spec", ["4294967296", "-1", "+5", "0:4294967296", "0:-3", "\u0663", "0:4294967295", " 5"])
def test_number_out_of_range_is_no_name(spec: str, subject: Resolve) -> None:
    """What looks like a number and is no id is an error, also where the image has a user or group of that name."""
    names = ("4294967296", "-1", "+5", "-3", "\u0663", "4294967295", " 5")
    passwd = "".join(f"{name}:x:0:0:::\n" for name in names)
    group = "".join(f"{name}:x:0:\n" for name in names)
    with pytest.raises(IdRangeError, match="0-4294967294"):
        subject(spec, passwd, group)


@pytest.mark.rule("U1", ours=ours, wrong=peer)
def test_number_in_range_is_no_name(subject: Resolve) -> None:
    """A number is that id, also where somebody else has it as a name."""
    assert subject("1000:50", "1000:x:0:0:::\n", "50:x:0:\n") == (1000, 50)


def peer_additional(names: list[str], group: str) -> tuple[int, ...]:
    """Compare with names and numbers, and collect into a set."""
    lines = [line.split(":") for line in group.splitlines()]
    return tuple({int(next((each[2] for each in lines if name in each[0:3:2]), name)) for name in names})


@pytest.mark.rule("U1", ours=additional_groups, wrong=peer_additional, raises=pytest.fail.Exception)
def test_additional_group_out_of_range_is_no_name(subject: Callable[[list[str], str], tuple[int, ...]]) -> None:
    """An additional group that looks like a number is none of the file's names."""
    with pytest.raises(IdRangeError):
        subject(["4294967296"], "4294967296:x:0:\n")


@pytest.mark.rule("U9", ours=additional_groups, wrong=peer_additional)
def test_groups_come_in_the_order_asked_for(subject: Callable[[list[str], str], tuple[int, ...]]) -> None:
    """Additional groups come in the order asked for, each once, every time."""
    group = "b:x:64:\na:x:3:\nc:x:1024:\n"
    assert subject(["c", "b", "64", "9", "a", "c"], group) == (1024, 64, 9, 3)


@pytest.mark.rule("U9")
def test_supplementary_groups_come_in_the_order_of_the_file() -> None:
    """Groups that list the user come in the order of the file, each id once."""
    group = "c:x:1024:ada\nb:x:64:ada\nagain:x:1024:ada\na:x:3:ada\n"
    assert get_exec_user("ada", None, "ada:x:5:6:::\n", group).groups == (1024, 64, 3)


# The assertions of 2014.


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("root", (0, 0, (0, 1234), "/root")),
        ("adm", (42, 43, (1234,), "/var/adm")),
        ("root:adm", (0, 43, (8888,), "/root")),
        ("adm:1234", (42, 1234, (8888,), "/var/adm")),
        ("42:1234", (42, 1234, (8888,), "/var/adm")),
        ("1337:1234", (1337, 1234, (8888,), "/8888")),
        ("1337", (1337, 8888, (8888,), "/8888")),
        ("", (8888, 8888, (8888,), "/8888")),
        ("00", (0, 0, (0, 1234), "/root")),
        (":adm", (8888, 43, (8888,), "/8888")),
        ("adm:", (42, 43, (1234,), "/var/adm")),
        ("1234:5:6", (1234, 5, (8888,), "/8888")),
        ("root:1:2", (0, 1, (8888,), "/root")),
    ],
)
def test_as_in_2014(spec: str, expected: tuple[object, ...]) -> None:
    """Each specification means what it meant."""
    user = get_exec_user(spec, DEFAULTS, PASSWD, GROUP)
    assert (user.uid, user.gid, user.groups, user.home) == expected
    assert user.sgids == user.groups


@pytest.mark.parametrize(
    "spec",
    ["notuser", "notuser:notgroup", "root:notgroup", "notuser:adm", "8888:notgroup", "notuser:8888", "-1:0", "0:-3",
     "-5:-2"],
)  # fmt: skip
def test_errors_as_in_2014(spec: str) -> None:
    """What was an error is one."""
    with pytest.raises((NoMatchingEntryError, IdRangeError)):
        get_exec_user(spec, DEFAULTS, PASSWD, GROUP)


def test_without_files_as_in_2014() -> None:
    """Without files, numbers and defaults still work, and the default groups stay."""
    assert get_exec_user("", DEFAULTS)[:4] == DEFAULTS[:4]
    assert get_exec_user("root", DEFAULTS, io.StringIO(PASSWD))[:4] == (0, 0, (8888,), "/root")
    assert get_exec_user("0", DEFAULTS)[:2] == (0, 8888)
    assert get_exec_user("0:0", DEFAULTS)[:2] == (0, 0)
    with pytest.raises(NoMatchingEntryError, match="unable to find user root"):
        get_exec_user("root", DEFAULTS)
    with pytest.raises(NoMatchingEntryError, match="unable to find group adm"):
        get_exec_user("0:adm", DEFAULTS)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ()),
        (["adm"], (43,)),
        (["adm", "grp"], (43, 1234)),
        (["43"], (43,)),
        (["adm", "10001"], (43, 10001)),
        (["adm", "43"], (43,)),
        (["2147483648"], (2147483648,)),  # an error in 2014, when ids had 31 bits
    ],
)
def test_additional_groups_as_in_2014(names: list[str], expected: tuple[int, ...], tmp_path: Path) -> None:
    """Names and numbers become gids, each once; of two groups of one name the first counts."""
    text = "root:x:0:\nadm:x:43:\ngrp:x:1234:\nadm:x:4343:\nthis is just some garbage data\n"
    (tmp_path / "group").write_text(text)
    assert additional_groups(names, text) == expected
    assert get_additional_groups_path(names, tmp_path / "group") == expected


def test_additional_groups_errors() -> None:
    """An unknown name, a number out of range and a missing file are errors."""
    with pytest.raises(LookupError, match="unable to find group not-exist"):
        additional_groups(["not-exist"], GROUP)
    with pytest.raises(ErrRange):
        additional_groups(["-1"], GROUP)
    with pytest.raises(FileNotFoundError):
        get_additional_groups_path(["adm"], "/nonexistent/group")


def test_supplementary_of_april_2014(tmp_path: Path) -> None:
    """The first form of the function gives a triple, without default groups; the second one adds the home."""
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    files = tmp_path / "passwd", tmp_path / "group"
    assert get_user_group_supplementary("root", 1000, 1001, *files) == (0, 0, (0, 1234))
    assert get_user_group_supplementary("root:adm", 1000, 1001, *files) == (0, 43, ())
    assert get_user_group_supplementary("", 1000, 1001, *files) == (1000, 1001, ())
    assert get_user_group_supplementary_home("7", 1000, 1001, "/h", *files) == (7, 1001, (), "/h")


# Homes and groups.


def peer_home(spec: str, passwd: str, group: str) -> str:
    """Take the field as it is, and the default as it is."""
    for line in passwd.splitlines():
        if line.startswith(f"{spec}:"):
            return line.split(":")[5]
    return ""


def our_home(spec: str, passwd: str, group: str) -> str:
    return get_exec_user(spec, None, passwd, group).home


@pytest.mark.rule("U6", ours=our_home, wrong=peer_home)
@pytest.mark.parametrize("spec", ["ada", "4242"])
def test_home_is_never_empty(spec: str, subject: Callable[[str, str, str], str]) -> None:
    """An empty home field, and an id without entry, mean "/"."""
    assert subject(spec, "ada:x:5:6:::\n", "") == "/"


def peer_keep_groups(spec: str, passwd: str, group: str) -> tuple[int, ...]:
    """Keep the groups of the user also where a group is given."""
    return get_exec_user(spec.partition(":")[0], None, passwd, group).groups


def our_groups(spec: str, passwd: str, group: str) -> tuple[int, ...]:
    return get_exec_user(spec, None, passwd, group).groups


@pytest.mark.rule("U6", ours=our_groups, wrong=peer_keep_groups)
def test_group_given_drops_the_others(subject: Callable[[str, str, str], tuple[int, ...]]) -> None:
    """With a group in the specification the groups that list the user are dropped."""
    assert subject("root:adm", PASSWD, GROUP) == ()
    assert subject("root:", PASSWD, GROUP) == (0, 1234)


def test_shell() -> None:
    """The shell is the entry's, or /bin/sh."""
    assert get_exec_user("root", None, PASSWD).shell == "/bin/bash"
    assert get_exec_user("ada", None, "ada:x:5:6:::\n").shell == "/bin/sh"


# Where things came from, and from which root.


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A container's root."""
    (tmp_path / "image/etc").mkdir(parents=True)
    (tmp_path / "image/etc/passwd").write_text("\nada:x:5:6:::\n")
    (tmp_path / "image/etc/group").write_text("math:x:50:ada\n\nlogic:x:51:ada\n")
    return tmp_path / "image"


@pytest.mark.rule("U+2")
def test_origins_name_file_and_line(image: Path) -> None:
    """Each value of the result says which line of which file gave it, or that it was given or the default."""
    user = resolve_user("ada", root=image)
    assert user[:3] == (5, 6, (50, 51))
    assert str(user.origins.uid) == "/etc/passwd:2"
    assert user.origins.gid == user.origins.home == user.origins.shell == Origin("/etc/passwd", 2)
    assert user.origins.groups == (Origin("/etc/group", 1), Origin("/etc/group", 3))
    number = resolve_user("7:logic", root=image, defaults=DEFAULTS)
    assert [str(origin) for origin in number.origins[:2]] == ["specification", "/etc/group:3"]
    assert number.origins.home == Origin("default")
    assert (number.groups, number.origins.groups) == ((8888,), (Origin("default"),))
    assert str(resolve_user("7:9", root=image).origins.gid) == "specification"
    assert str(resolve_user("", root=image, defaults=DEFAULTS).origins.uid) == "default"


def peer_read_host(spec: str, root: Path) -> int:
    """Join the paths and open what they lead to."""
    user = get_exec_user_path(spec, None, f"{root}/etc/passwd", f"{root}/etc/group")
    return user.uid


def our_read(spec: str, root: Path) -> int:
    return resolve_user(spec, root=root).uid


@pytest.mark.rule("U5", ours=our_read, wrong=peer_read_host)
@pytest.mark.parametrize("way", ["{outside}/passwd", "../../outside/passwd", "/proc/self/root{outside}/passwd"])
def test_image_cannot_name_a_file_of_the_host(image: Path, way: str, subject: Callable[[str, Path], int]) -> None:
    """A link in the image that leads to a file outside finds the image's own, or nothing."""
    outside = image.parent / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("ada:x:0:0:::\n")
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").symlink_to(way.format(outside=outside))
    inside = image / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    (inside / "passwd").write_text("ada:x:77:77:::\n")
    with contextlib.suppress(NoMatchingEntryError):  # a way that leads nowhere inside
        assert subject("ada", image) == 77


def test_bad_line_of_the_name_is_an_error(image: Path) -> None:
    """A user whose line has no uid is an error with file and line, not another user."""
    (image / "etc/passwd").write_text("ada:x::6:::\nada:x:0:0:::\n")
    with pytest.raises(ParseError, match="/etc/passwd:1:7: uid: empty"):
        resolve_user("ada", root=image)


def test_missing_files_are_empty_ones(image: Path) -> None:
    """Without files a number is taken, a name is an error; a device in the place of a file is an error too."""
    (image / "etc/passwd").unlink()
    (image / "etc/group").unlink()
    assert resolve_user("5:6", root=image)[:4] == (5, 6, (), "/")
    with pytest.raises(NoMatchingEntryError):
        resolve_user("ada", root=image)
    (image / "etc/passwd").mkdir()
    with pytest.raises(NotRegularFileError, match="is a directory"):
        resolve_user("5", root=image)


def test_defaults_are_checked() -> None:
    """A default id out of range is an error."""
    with pytest.raises(IdRangeError):
        get_exec_user("", ExecUser(2**32 - 1))
    with pytest.raises(IdRangeError, match="default group 4294967295"):
        get_exec_user("0:0", ExecUser(0, 0, (7, 2**32 - 1)))
