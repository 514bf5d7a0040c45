"""Configured package sources are read as apt reads them, and the Debian mirror is found among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.vm.apt_sources import Mirrors, Source, parse_list, parse_sources, plan_mirrors, read_sources
from kernelproof.vm.distribution import read_distributions
from kernelproof.vm.tests.provision.recorded import read_recorded

DEBIAN, UBUNTU = read_distributions()


def test_paragraphs_give_sources() -> None:
    """A container image's file gives its two sources, each with its keyring and the line it begins at."""
    sources = parse_sources(read_recorded("debian-13-container.sources"), "debian.sources")
    keyring = "/usr/share/keyrings/debian-archive-keyring.pgp"
    assert sources == (
        Source(
            ("http://mirror.example/debian",),
            ("trixie", "trixie-updates"),
            ("main",),
            keyring,
            None,
            "debian.sources:1",
        ),
        Source(
            ("http://mirror.example/debian-security",),
            ("trixie-security",),
            ("main",),
            keyring,
            None,
            "debian.sources:7",
        ),
    )


def test_paragraph_may_hold_a_key_and_several_addresses() -> None:
    """A key in the source itself, values over several lines and unknown fields are understood."""
    sources = parse_sources(read_recorded("inline-key.sources"), "x")
    assert sources[0].uris == ("https://a.example/debian", "https://b.example/debian")
    assert sources[0].signed_by.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert [source.uris[0] for source in sources] == ["https://a.example/debian", "https://insecure.example/debian"]


def test_source_that_allows_the_insecure_counts_as_trusted() -> None:
    """Both ways to ask for no signature are seen: Trusted and Allow-Insecure."""
    insecure = parse_sources(read_recorded("inline-key.sources"), "x")[1]
    unsigned = parse_sources(read_recorded("unsigned-folder.sources"), "x")[0]
    assert (insecure.trusted, unsigned.trusted) == (True, True)
    assert unsigned.suites == ("./",)


def test_lines_give_sources() -> None:
    """Options, tabs, comments and an address with spaces in brackets are understood; deb-src gives nothing."""
    sources = parse_list(read_recorded("classic.list"), "classic.list")
    assert [(source.uris[0], source.suites[0], source.trusted) for source in sources] == [
        ("cdrom:[Debian GNU/Linux 12.9.0 _Bookworm_ - Official amd64 NETINST]/", "bookworm", None),
        ("http://mirror.example/debian", "bookworm", None),
        ("http://security.example/debian-security", "bookworm-security", None),
        ("https://other.example/linux/debian", "bookworm", None),
        ("https://other.example/main", "bookworm", None),
        ("http://trusted.example/debian", "bookworm", True),
        ("file:/srv/flat", "./", None),
    ]
    assert sources[3].signed_by == sources[4].signed_by == "/etc/apt/keyrings/other.asc"
    assert sources[1].origin == "classic.list:4"


@pytest.mark.parametrize("text", ["deb http://mirror.example/debian", "deb [arch=amd64 trixie main", "deb [a=b]"])
def test_line_that_is_no_source_is_an_error(text: str) -> None:
    """A line without suite, or with a bracket that does not close, is told with its place."""
    with pytest.raises(ValueError, match=r"x\.list:1"):
        parse_list(text, "x.list")


@pytest.mark.parametrize(
    "text", ["Types: deb\nSuites: trixie\n", "Types: deb\nURIs: http://m.example\n", "nonsense\n", " goes on\n"]
)
def test_paragraph_that_is_no_source_is_an_error(text: str) -> None:
    """A paragraph without URIs or Suites, and a line that is no field, are told with their place."""
    with pytest.raises(ValueError, match=r"x\.sources:1"):
        parse_sources(text, "x.sources")


def test_mirrors_of_a_container_image() -> None:
    """The archive and the security archive are told apart by the suite."""
    sources = parse_sources(read_recorded("debian-13-container.sources"), "x")
    mirrors = plan_mirrors([*parse_sources(read_recorded("unsigned-folder.sources"), "y"), *sources], DEBIAN)
    assert mirrors == Mirrors(("http://mirror.example/debian",), ("http://mirror.example/debian-security",))
    assert mirrors.of("bookworm-security") == mirrors.security
    assert mirrors.of("sid") == mirrors.of("trixie-updates") == mirrors.archive


def test_mirrors_from_a_file_are_kept_as_they_are() -> None:
    """An address of apt's mirror method is used as it is; no folder beside it is guessed."""
    mirrors = plan_mirrors(parse_sources(read_recorded("mirror-file.sources"), "x"), DEBIAN)
    assert mirrors.archive == ("mirror+file:///etc/apt/mirrors/debian.list",)
    assert mirrors.security == ("mirror+file:///etc/apt/mirrors/debian-security.list",)


def test_trusted_sources_and_discs_are_never_taken_over() -> None:
    """What needs no signature, and what lies on a disc, is no mirror; foreign keys come last."""
    mirrors = plan_mirrors(parse_list(read_recorded("classic.list"), "x"), DEBIAN)
    assert mirrors.archive == (
        "http://mirror.example/debian",
        "https://other.example/main",
        "http://security.example/debian",
    )
    assert mirrors.security == ("http://security.example/debian-security", "http://mirror.example/debian-security")


def test_security_archive_is_looked_for_beside_the_archive() -> None:
    """Where only one archive is configured, the folder beside it is tried for the other."""
    sources = parse_list("deb http://m.example/pub/debian/ stable main\n", "x")
    found = plan_mirrors(sources, DEBIAN)
    assert found == Mirrors(("http://m.example/pub/debian",), ("http://m.example/pub/debian-security",))


def test_archive_named_like_debian_only_in_part_has_nothing_beside_it() -> None:
    """A folder is replaced as a whole, never a part of its name."""
    sources = parse_list("deb http://m.example/debianish trixie main\n", "x")
    assert plan_mirrors(sources, DEBIAN) == Mirrors(("http://m.example/debianish",), ())


def test_nothing_configured_gives_no_mirror() -> None:
    """Without a source of a Debian suite there is no mirror."""
    assert plan_mirrors(parse_list("deb http://m.example/ubuntu noble main\n", "x"), DEBIAN) == Mirrors((), ())


def test_files_are_read_in_the_order_of_apt(tmp_path: Path) -> None:
    """sources.list first, then the folder by name; files that apt ignores are ignored."""
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "sources.list").write_text("deb http://1.example/debian trixie main\n")
    (folder / "a.sources").write_text("Types: deb\nURIs: http://2.example/debian\nSuites: trixie\nComponents: main\n")
    (folder / "b.list").write_text("deb http://3.example/debian trixie main\n")
    for ignored in ("c.list~", "d e.list", "e.list.save", "f.txt"):
        (folder / ignored).write_text("deb http://ignored.example/debian trixie main\n")
    assert [source.uris[0] for source in read_sources(tmp_path)] == [f"http://{n}.example/debian" for n in (1, 2, 3)]


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """Text that is not UTF-8 is told, not passed over."""
    (tmp_path / "sources.list").write_bytes(b"deb http://m.example/\xff trixie main\n")
    with pytest.raises(ValueError, match="utf-8"):
        read_sources(tmp_path)


def test_absent_folder_gives_nothing(tmp_path: Path) -> None:
    """A machine without any source gives none."""
    assert read_sources(tmp_path / "none") == ()


@pytest.mark.parametrize("name", ["ubuntu-24.04.sources", "ubuntu-22.04.list"])
def test_mirrors_of_ubuntu(name: str) -> None:
    """One archive has all suites: either address may have each; sources of others are none of it."""
    parse = parse_list if name.endswith(".list") else parse_sources
    mirrors = plan_mirrors(parse(read_recorded(name), name), UBUNTU)
    assert mirrors.of("noble-updates") == ("http://mirror.example/ubuntu", "http://security.example/ubuntu")
    assert mirrors.of("noble-security") == ("http://security.example/ubuntu", "http://mirror.example/ubuntu")
    foreign = plan_mirrors(parse(read_recorded(name), name), DEBIAN)
    assert not any("ubuntu" in uri for uri in (*foreign.archive, *foreign.security))
