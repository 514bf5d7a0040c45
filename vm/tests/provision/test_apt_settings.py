"""What of a machine's apt configuration is taken over: where things are, never what is allowed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kernelproof.vm.apt import DEMANDED, AptSettings, format_sources
from kernelproof.vm.apt_settings import find_keyring, parse_dump, plan_expiry, plan_options
from kernelproof.vm.apt_sources import Mirrors
from kernelproof.vm.distribution import read_distributions
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.tests.provision.recorded import read_recorded

PROXY = parse_dump(read_recorded("config-dump-proxy.txt"))
CONTAINER = parse_dump(read_recorded("config-dump.txt"))


def test_proxies_and_certificates_are_taken_over() -> None:
    """Proxies, certificates, retries and password files are; hooks and relaxed checks are not."""
    assert plan_options(PROXY, Path("/etc/apt")) == (
        ("Acquire::Retries", "3"),
        ("Acquire::ForceIPv4", "true"),
        ("Acquire::http::Proxy", "http://proxy.example:3128"),
        ("Acquire::http::Proxy::direct.example", "DIRECT"),
        ("Acquire::https::CaInfo", "/etc/ssl/certs/corporate.pem"),
        ("Acquire::https::Verify-Peer", "true"),
        ("Dir::Etc::netrc", "/etc/apt/auth.conf"),
        ("Dir::Etc::netrcparts", "/etc/apt/auth.conf.d"),
    )


def test_signatures_and_digests_are_demanded() -> None:
    """What is said on each command line allows nothing unsigned, weak or unauthenticated."""
    demanded = dict(DEMANDED)
    for key in ("AllowInsecureRepositories", "AllowWeakRepositories", "AllowDowngradeToInsecureRepositories"):
        assert demanded[f"Acquire::{key}"] == "false"
    assert demanded["APT::Get::AllowUnauthenticated"] == "false"
    assert demanded["Acquire::ForceHash"] == "SHA256"


@pytest.mark.parametrize(
    ("dump", "said", "accepted"),
    [
        (CONTAINER, "", True),  # the recorded machine keeps a frozen mirror and says so
        (CONTAINER, "refuse", False),
        (PROXY, "", False),
        (PROXY, "accept", True),
        ((), "", False),
    ],
)
def test_expired_indexes(dump: tuple[tuple[str, str], ...], said: str, accepted: bool) -> None:
    """An expired index is refused unless the variable or this machine's own apt says otherwise."""
    assert plan_expiry(dump, {"KERNELPROOF_EXPIRED": said} if said else {}) is accepted


def test_wrong_word_about_expiry_is_told() -> None:
    """A word that is neither accept nor refuse is an error."""
    with pytest.raises(ProvisionError, match="KERNELPROOF_EXPIRED: 'yes'"):
        plan_expiry((), {"KERNELPROOF_EXPIRED": "yes"})


def test_sources_of_ours_name_one_keyring() -> None:
    """Each suite gets a line with its mirror, our architecture and the distribution's keyring."""
    settings = AptSettings(Mirrors((), ()), Path("/keys.pgp"), components=("main", "universe"))
    text = format_sources({"trixie": "http://m.example/debian", "sid": "mirror+file:/m.list"}, settings)
    assert text == (
        "deb [arch=amd64 signed-by=/keys.pgp] http://m.example/debian trixie main universe\n"
        "deb [arch=amd64 signed-by=/keys.pgp] mirror+file:/m.list sid main universe\n"
    )


def test_first_keyring_that_is_there(tmp_path: Path) -> None:
    """The keyring is found under either name; without it there is a remedy."""
    keyring = tmp_path / "b.gpg"
    distribution = replace(read_distributions()[0], keyrings=(tmp_path / "a.pgp", keyring))
    with pytest.raises(ProvisionError, match=r"find the Debian keyring.*\n.*package debian-archive-keyring"):
        find_keyring(distribution)
    keyring.touch()
    assert find_keyring(distribution) == keyring


def test_settings_are_plain_values() -> None:
    """Two equal settings are equal: they are data."""
    one = AptSettings(Mirrors(("a",), ()), Path("/k"))
    assert one == AptSettings(Mirrors(("a",), ()), Path("/k"))
