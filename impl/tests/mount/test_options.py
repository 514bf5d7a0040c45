"""Words of `mount -o` and fstab to flags and back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.mount import MountAttribute, MountFlag, OptionError, Options, format_options, parse_options
from kernelproof.impl.mount.options import PROPAGATION_WORDS, merge_tmpfs_options, split_options

KNOWN = (
    "ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime diratime nodiratime "
    "relatime norelatime strictatime nostrictatime lazytime nolazytime symfollow nosymfollow iversion noiversion "
    "silent loud bind rbind move rro rrw rnosuid rsuid rnoatime rrelatime rstrictatime rnodev rexec ro=recursive"
)
words = st.one_of(
    st.sampled_from(KNOWN.split()),
    st.sampled_from(sorted(PROPAGATION_WORDS)),
    st.sampled_from(["nofail", "_netdev", "x-systemd.automount", "user", "defaults", "comment=a b", "loop=/dev/loop0"]),
    st.text(st.characters(blacklist_characters=',"\\\0', codec="utf-8"), min_size=1, max_size=8),
    st.sampled_from(['context="a,b"', r"lowerdir=/a\,b", "size=64m", " ro"]),
)


def test_example_of_the_old_test() -> None:
    """The case of 2014: flags, and the rest as data."""
    options = parse_options("bind,ro,size=10k")
    assert (options.flags, options.data) == (MountFlag.BIND | MountFlag.RDONLY, "size=10k")


@pytest.mark.parametrize(
    ("text", "plain", "recursive"),
    [
        ("", (0, 0), (0, 0)),
        ("nosuid", (MountAttribute.NOSUID, 0), (0, 0)),
        ("rw,suid", (0, MountAttribute.RDONLY | MountAttribute.NOSUID), (0, 0)),
        ("ro=recursive,nodev", (MountAttribute.NODEV, 0), (MountAttribute.RDONLY, 0)),
    ],
    ids=["none", "set", "cleared", "recursive"],
)
def test_attributes(text: str, plain: tuple[int, int], recursive: tuple[int, int]) -> None:
    """Only what a word names is set or cleared, of a mount and of its tree apart."""
    options = parse_options(text)
    assert (options.attributes_set, options.attributes_cleared) == plain
    assert (options.recursive_set, options.recursive_cleared) == recursive


@pytest.mark.parametrize(
    ("text", "flags", "cleared", "data"),
    [
        ("", 0, 0, ""),
        ("defaults", 0, 0, ""),
        ("ro,rw", 0, MountFlag.RDONLY, ""),
        ("rw,ro", MountFlag.RDONLY, 0, ""),
        ("rbind", MountFlag.BIND | MountFlag.REC, 0, ""),
        ("size=1m,noexec,mode=755", MountFlag.NOEXEC, 0, "size=1m,mode=755"),
        (" ro", 0, 0, " ro"),
        (",,x,,", 0, 0, "x"),
        ("ro=fs", MountFlag.RDONLY, 0, ""),
        ("user", MountFlag.NOEXEC | MountFlag.NOSUID | MountFlag.NODEV, 0, ""),
        ("user,exec", MountFlag.NOSUID | MountFlag.NODEV, MountFlag.NOEXEC, ""),
        ("relatime,resize=4", MountFlag.RELATIME, 0, "resize=4"),
        ("frobnicate,x=y", 0, 0, "frobnicate,x=y"),
    ],
)
def test_words(text: str, flags: int, cleared: int, data: str) -> None:
    """Known words are flags, the last of two that contradict each other holds, and what is unknown is data."""
    options = parse_options(text)
    assert (options.flags, options.cleared, options.data) == (flags, cleared, data)


def test_propagation_is_kept_apart_in_order() -> None:
    """Types of propagation are steps of their own, not flags and not data."""
    options = parse_options("slave,ro,rshared")
    assert options.propagation == (MountFlag.SLAVE, MountFlag.SHARED | MountFlag.REC)
    assert options.flags == MountFlag.RDONLY


def test_words_for_programs_are_kept_apart() -> None:
    """The kernel never gets what is for mount(8), its helpers and systemd."""
    options = parse_options("nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,loop,offset=512,noauto,uid=5")
    assert options.userspace == (
        *("nofail", "_netdev", "x-systemd.automount", "X-mount.mkdir=0755", "loop", "offset=512", "noauto"),
    )
    assert options.data == "uid=5"


def test_recursive_words() -> None:
    """A recursive attribute is one of the whole tree, in either spelling, and no flag of mount(2)."""
    for text in ("bind,rro,rnoatime", "bind,ro=recursive,noatime=recursive"):
        options = parse_options(text)
        assert options.flags == MountFlag.BIND
        assert options.recursive_set == MountAttribute.RDONLY | MountAttribute.NOATIME
        assert options.recursive_cleared == 0x70
        assert options.is_recursive


def test_comma_in_quotes_or_after_a_backslash_is_part_of_a_word() -> None:
    """A context of SELinux and a layer with a comma in its name stay whole."""
    text = r'context="system_u:object_r:tmp_t:s0:c1,c2",lowerdir=/a\,b:/c,ro'
    assert list(split_options(text)) == ['context="system_u:object_r:tmp_t:s0:c1,c2"', r"lowerdir=/a\,b:/c", "ro"]


@given(st.lists(words, max_size=8))
def test_round_trip(given_words: list[str]) -> None:
    """What is written from options means what they mean."""
    options = parse_options(",".join(given_words))
    again = parse_options(format_options(options))
    assert again._replace(words=()) == options._replace(words=())


@given(st.lists(words, max_size=8))
def test_no_word_is_lost(given_words: list[str]) -> None:
    """Every word is a flag, a type of propagation, for programs, or data; data and those for programs in order."""
    options = parse_options(given_words)
    unknown = [word for word in given_words if word in options.data_words or word in options.userspace]
    assert [*options.data_words] == [word for word in unknown if word in options.data_words]
    assert str(options) == ",".join(given_words)


def test_flag_without_word_is_an_error() -> None:
    """A flag that no word says is not left out in silence."""
    with pytest.raises(OptionError, match="no word says"):
        format_options(Options(MountFlag(1 << 30)))


def test_merge_for_tmpfs() -> None:
    """The case of 2015: each flag and key once, the last of them."""
    given_words = "noatime,ro,size=10k,defaults,atime,defaults,rw,rprivate,size=1024k,slave"
    assert merge_tmpfs_options(given_words.split(",")) == ["atime", "rw", "size=1024k", "slave"]


@pytest.mark.parametrize("word", ["size", "frobnicate", "lowerdir=/x"])
def test_merge_refuses_what_tmpfs_does_not_take(word: str) -> None:
    """A key without value and an unknown key are errors."""
    with pytest.raises(OptionError, match="Invalid tmpfs option"):
        merge_tmpfs_options([word])


def test_is_fast_enough_for_long_lists() -> None:
    """Ten thousand words are split in one go, not each against all before it."""
    splitter: Callable[[str], object] = parse_options
    assert splitter(",".join(f"k{each}=v" for each in range(10_000)))
