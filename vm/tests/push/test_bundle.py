"""A bundle holds what is pushed, and unpacks to the same."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm.guest.bundle import FILE, LINK, MAGIC, pack_member, read_members, unpack


def bundle(*members: tuple[str, bytes, int]) -> bytes:
    return MAGIC + b"".join(pack_member(path.encode(), content, mode, 1_700_000_000) for path, content, mode in members)


def test_files_are_as_they_were(tmp_path: Path) -> None:
    """Content, permissions and time of change arrive; folders are made; what was there is written over."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/old").write_bytes(b"much longer than what comes")
    unpack(bundle(("a/b/old", b"new", 0o644), ("c/tool", b"\0" * 5, 0o755), ("empty", b"", 0o600)), str(tmp_path))
    assert (tmp_path / "a/b/old").read_bytes() == b"new"
    assert (tmp_path / "c/tool").read_bytes() == bytes(5)
    assert (tmp_path / "c/tool").stat().st_mtime == 1_700_000_000
    assert (tmp_path / "empty").stat().st_size == 0
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "c/tool").stat().st_mode & 0o7777 == 0o755 & ~mask


def test_links_are_links(tmp_path: Path) -> None:
    """A symbolic link is made as it is, also where something lies already, and never written through."""
    (tmp_path / "outside").write_bytes(b"untouched")
    (tmp_path / "link").symlink_to("outside")
    unpack(MAGIC + pack_member(b"link", b"elsewhere/than", 0o777, 0, LINK), str(tmp_path))
    assert os.readlink(tmp_path / "link") == "elsewhere/than"
    assert (tmp_path / "outside").read_bytes() == b"untouched"


def test_time_beyond_32_bits(tmp_path: Path) -> None:
    """A time of change that does not fit is cut as Python cuts it for its bytecode files."""
    unpack(MAGIC + pack_member(b"x", b"", 0o644, (1 << 32) + 7), str(tmp_path))
    assert (tmp_path / "x").stat().st_mtime == 7


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=80)), max_size=5))
def test_what_is_packed_is_read(members: list[tuple[bytes, bytes]]) -> None:
    """Reading gives what was packed, in its order."""
    packed = MAGIC + b"".join(pack_member(path, content, 0o644, 0, FILE) for path, content in members)
    assert list(read_members(packed)) == members


@pytest.mark.parametrize("cut", range(1, 20))
def test_what_is_cut_is_refused(cut: int, tmp_path: Path) -> None:
    """A bundle without its end is no bundle."""
    packed = bundle(("path", b"content", 0o644))
    with pytest.raises(ValueError, match="a bundle"):
        list(read_members(packed[:-cut]))
    if cut > len(b"pathcontent"):
        with pytest.raises(struct.error):
            unpack(packed[:-cut], str(tmp_path))


def test_something_else_is_refused() -> None:
    """Bytes that do not begin as a bundle does are none."""
    with pytest.raises(ValueError, match="not a bundle"):
        list(read_members(b"x" * 100))
