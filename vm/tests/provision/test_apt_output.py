"""What apt prints is understood."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kernelproof.vm.apt_output import (
    Package,
    classify,
    parse_expiry,
    parse_percent,
    parse_problem,
    parse_uris,
    version_key,
)
from kernelproof.vm.tests.provision.recorded import read_recorded


def test_addresses_of_packages() -> None:
    """Every package to be downloaded is read with version, size and digest; an epoch is unescaped."""
    packages = parse_uris(read_recorded("print-uris.txt"))
    assert len(packages) == 9
    assert packages[4] == Package(
        "zlib1g",
        "1:1.3.dfsg+really1.3.1-1+deb13u1",
        "http://mirror.example/debian/pool/main/z/zlib/zlib1g_1.3.dfsg%2breally1.3.1-1%2bdeb13u1_amd64.deb",
        88720,
        "8c27c342230503b73dfde629642c3b352e87b554e06d60cf58772f236a305ceb",
    )


@pytest.mark.parametrize(
    "line",
    [
        "'http://m.example/a_1_all.deb' a_1_all.deb 12 MD5Sum:d41d8cd98f00b204e9800998ecf8427e",
        "'http://m.example/a_1_all.deb' a_1_all.deb 12 ",
        "'http://m.example/x' x 12 SHA256:" + "0" * 64,
    ],
)
def test_address_without_digest_is_refused(line: str) -> None:
    """A file that the index gives no SHA-256 of is never downloaded."""
    with pytest.raises(ValueError, match=r"no address|not the name"):
        parse_uris(line)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("said-expired.txt", "expired", "Release file for http://mirror.example/debian/dists/sid/InRelease is expired"),
        ("said-vanished.txt", "vanished", "does not have a Release file."),
        ("said-full.txt", "space", "No space left on device"),
        ("said-unsigned.txt", "unsigned", "is not signed."),
        ("said-unreachable.txt", "network", "Unable to connect to 127.0.0.1:9:"),
        ("said-tampered.txt", "unsigned", "OpenPGP signature verification failed"),
        ("said-tampered-package.txt", "digest", "Hash Sum mismatch"),
    ],
)
def test_kinds_of_trouble_are_told_apart(name: str, kind: str, words: str) -> None:
    """Each failure that was recorded is named, and its most telling line is found."""
    text = read_recorded(name)
    assert classify(text).name == kind
    assert words in parse_problem(text)


def test_unknown_trouble_has_a_remedy() -> None:
    """Words that nobody foresaw are shown, with something to do."""
    assert classify("E: the moon is full").name == "unknown"
    assert classify("E: the moon is full").remedy
    assert parse_problem("something\nE: the moon is full\n") == "the moon is full"
    assert parse_problem("only words\n") == "only words"
    assert parse_problem("") == "it said nothing"


def test_percent() -> None:
    """The status descriptor's lines of downloads give a number, others none."""
    assert parse_percent("dlstatus:1:16.6336:Retrieving file 1 of 1") == pytest.approx(16.6336)
    assert parse_percent("pmstatus:dpkg:16.6:Installing") is None


def test_expiry() -> None:
    """An index says in UTC when it is to be renewed by, or nothing."""
    text = "Origin: Debian\nValid-Until: Fri, 06 Nov 2026 08:08:01 UTC\n"
    assert parse_expiry(text) == datetime(2026, 11, 6, 8, 8, 1, tzinfo=UTC)
    assert parse_expiry("Origin: Debian\n") is None
    assert parse_expiry("Valid-Until: soon\n") is None


def test_versions_are_sorted_by_number() -> None:
    """6.18.9 comes before 6.18.15, and 5.10.223 before 5.10.262."""
    versions = ["6.18.15-1~bpo13+1", "6.18.9-1~bpo13+1", "6.18.12-1~bpo13+1"]
    assert sorted(versions, key=version_key) == [versions[1], versions[2], versions[0]]
