"""start.py: what of the machine's apt is taken over, and what is demanded of it."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

start = SimpleNamespace(**runpy.run_path(str(Path(__file__).resolve().parent.parent / "start.py")))

DEB822 = """# ours
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
# a comment between
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: file:/usr/share/unsigned
Suites: ./
Trusted: Yes

Types: deb
URIs: http://off.example
Suites: stable
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example
Suites: stable
Components: main

Types: deb
URIs: http://key.example
Suites: ./
Check-Valid-Until: no
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQ
 -----END PGP PUBLIC KEY BLOCK-----
"""
ONE_LINE = """# comment
deb http://mirror.example/debian bookworm main contrib # words
deb [arch=amd64 signed-by=/Keys/a.gpg check-valid-until=no] http://other.example stable main
deb [trusted=yes] http://unsigned.example ./
deb [Allow-Insecure=yes] http://insecure.example stable main
deb-src http://mirror.example/debian bookworm main
"""


def test_signed_sources_of_deb822() -> None:
    """One source a suite is taken; what needs no signature, is off, or holds no binaries is not."""
    sources = start.parse_deb822(DEB822)
    keyring = "/usr/share/keyrings/debian-archive-keyring.pgp"
    assert sources[:2] == [
        start.Source("http://mirror.example/debian", "trixie", ("main", "contrib"), keyring, ""),
        start.Source("http://mirror.example/debian", "trixie-updates", ("main", "contrib"), keyring, ""),
    ]
    assert [(source.uri, source.suite, source.check_valid_until) for source in sources[2:]] == [
        ("http://key.example", "./", "no")
    ]
    assert sources[2].signed_by.endswith("-----END PGP PUBLIC KEY BLOCK-----")


def test_signed_sources_of_one_line_style() -> None:
    """The older style gives the same records."""
    assert start.parse_one_line(ONE_LINE) == [
        start.Source("http://mirror.example/debian", "bookworm", ("main", "contrib"), "", ""),
        start.Source("http://other.example", "stable", ("main",), "/Keys/a.gpg", "no"),
    ]


def test_source_survives_being_written() -> None:
    """A source that is written for apt is read back as it was, an embedded key included."""
    for source in start.parse_deb822(DEB822) + start.parse_one_line(ONE_LINE):
        (again,) = start.parse_deb822(start.format_source(source))
        assert again == source


def test_sources_are_read_from_both_places(tmp_path: Path) -> None:
    """sources.list and sources.list.d are read, other files there are not."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example s main\n")
    (tmp_path / "sources.list.d" / "b.sources").write_text(
        "Types: deb\nURIs: http://b.example\nSuites: s\nComponents: m\n"
    )
    (tmp_path / "sources.list.d" / "c.list").write_text("deb http://c.example s main\n")
    (tmp_path / "sources.list.d" / "d.list.bak").write_text("deb http://d.example s main\n")
    assert [source.uri[7] for source in start.read_sources(tmp_path)] == ["a", "b", "c"]


def test_transport_settings() -> None:
    """Of apt's settings, proxies, certificates and the dates that count are taken over; hooks and laxity are not."""
    dump = """APT::Architecture "amd64";
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::CAInfo "/etc/ca.crt";
Acquire::Check-Date "false";
Acquire::AllowInsecureRepositories "true";
APT::Update::Post-Invoke:: "touch /tmp/hook";
"""
    assert start.parse_transport(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::https::CAInfo "/etc/ca.crt";',
        'Acquire::Check-Date "false";',
    ]


def test_apt_demands_signatures_on_the_command_line() -> None:
    """Whatever files say, apt is told on its command line to take nothing unsigned; its own state is private."""
    configuration, demands = start.plan_apt(Path("/private"), ["Acquire::Retries 1;"])
    assert "Acquire::AllowInsecureRepositories=false" in demands
    assert "APT::Get::AllowUnauthenticated=false" in demands
    for name in ("Dir::State", "Dir::Cache", "Dir::State::status", "Dir::Etc::parts", "Dir::Etc::sourceparts"):
        assert f'{name} "/private/' in configuration
    assert "Acquire::Retries 1;" in configuration
