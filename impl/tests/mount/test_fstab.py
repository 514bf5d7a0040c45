"""fstab, read and written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.mount import FstabEntry, format_fstab, parse_fstab, read_fstab
from kernelproof.impl.mount.fstab import format_entry, parse_entry

TEXT = """# /etc/fstab: static file system information.

UUID=0a1b  /               ext4  errors=remount-ro 0 1
LABEL=my\\040disc\t/mnt/my\\040disc\tvfat\tuser,noauto
/dev/sdb2  none            swap  sw    # the small one
bad line
tmpfs      /tmp            tmpfs
"""

fields = st.text(st.characters(blacklist_characters="\0", codec="utf-8"), min_size=1, max_size=10)


def test_entries() -> None:
    """Blanks and tabs part fields, escapes are decoded, what is left out has its default."""
    table = parse_fstab(TEXT)
    assert table.entries == (
        FstabEntry("UUID=0a1b", "/", "ext4", "errors=remount-ro", 0, 1),
        FstabEntry("LABEL=my disc", "/mnt/my disc", "vfat", "user,noauto"),
        FstabEntry("/dev/sdb2", "none", "swap", "sw"),
        FstabEntry("tmpfs", "/tmp", "tmpfs", "defaults", 0, 0),
    )
    assert table.entries[1].parsed_options().userspace == ("user", "noauto")
    (error,) = table.errors
    assert (error.line, "2 fields" in str(error)) == (6, True)


def test_unchanged_text_is_written_as_it_was() -> None:
    """Comments, blank lines, columns and bad lines survive; a changed entry is written anew in its place."""
    table = parse_fstab(TEXT)
    assert format_fstab(table) == TEXT
    changed = table.with_entry(FstabEntry("tmpfs", "/tmp", "tmpfs", "size=1g")).with_entry(
        FstabEntry("a b", "/new", "auto")
    )
    lines = format_fstab(changed).split("\n")
    assert lines[:6] == TEXT.split("\n")[:6]
    assert lines[6:] == ["tmpfs\t/tmp\ttmpfs\tsize=1g\t0\t0", "a\\040b\t/new\tauto\tdefaults\t0\t0", ""]
    assert "/mnt/my" not in format_fstab(table.without("/mnt/my disc"))


@given(fields, fields, fields, fields, st.integers(0, 9), st.integers(0, 9))
def test_entry_round_trip(source: str, point: str, fstype: str, options: str, freq: int, passno: int) -> None:
    """An entry is read back as it was, whatever its fields hold."""
    entry = FstabEntry(source, point, fstype, options, freq, passno)
    line = format_entry(entry)
    assert "\n" not in line
    assert parse_entry(line) == entry


@given(st.text(max_size=200))
def test_any_text_is_kept(text: str) -> None:
    """Whatever a file holds is written back."""
    assert format_fstab(parse_fstab(text + "\n")) == text + "\n"


def test_bad_fields_are_errors() -> None:
    """A number that is none is said to be, and an empty field cannot be written."""
    with pytest.raises(ValueError, match="passno is no number but 'x'"):
        parse_entry("a b c d 0 x")
    with pytest.raises(ValueError, match="empty field: mount_point"):
        format_entry(FstabEntry("a", "", "c"))


def test_file_with_foreign_bytes_is_read(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are kept, and a carriage return is part of a field."""
    path = tmp_path / "fstab"
    path.write_bytes(b"caf\xe9 /a\r auto\n")
    assert read_fstab(path).entries == (FstabEntry("caf\udce9", "/a\r", "auto"),)
