"""`nox -s fresh`: what is run, as whom, with what of this machine; all that is decided before anything is mounted."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernelproof_fresh", ROOT / "tests" / "fresh_machine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fresh: Any = load()
Source = fresh.start.Source
SOURCES = [
    Source("http://m.example/debian", "trixie", ("main",), "/keys/new", ""),
    Source("http://m.example/debian", "trixie-updates", ("main",), "/keys/new", ""),
    Source("http://other.example", "stable", ("main",), "", ""),
]


def test_rounds_of_the_readme() -> None:
    """Both commands run for the user first, then for root; the first one again without network."""
    assert [(one.user, one.arguments[0], one.network) for one in fresh.plan_rounds([])] == [
        ("tester", "conformance", True),
        ("tester", "conformance", False),
        ("tester", "tests", True),
        ("root", "conformance", True),
        ("root", "conformance", False),
        ("root", "tests", True),
    ]


def test_rounds_of_other_commands() -> None:
    """Command lines that are named replace the README's."""
    rounds = fresh.plan_rounds(["lint", "conformance -k 'a or b'"])
    assert {one.arguments for one in rounds} == {("lint",), ("conformance", "-k", "a or b")}
    assert [one.arguments for one in rounds if not one.network] == [("lint",)] * 2


def test_environment_is_a_bare_login() -> None:
    """Only how a package index is reached comes from this machine's environment."""
    host = {"PIP_INDEX_URL": "i", "SSL_CERT_FILE": "c", "https_proxy": "p", "PYTHONPATH": "x", "VIRTUAL_ENV": "v"}
    planned = fresh.plan_environment("tester", host)
    assert (
        planned.items()
        >= {"HOME": "/home/tester", "PIP_INDEX_URL": "i", "SSL_CERT_FILE": "c", "https_proxy": "p"}.items()
    )
    assert planned.keys().isdisjoint({"PYTHONPATH", "VIRTUAL_ENV"})
    assert fresh.plan_environment("root", host)["HOME"] == "/root"


def test_sources_of_the_own_release() -> None:
    """The machine's own release is taken with its keyring, and nothing else of its sources."""
    assert fresh.plan_sources(SOURCES, "trixie", "trixie") == SOURCES[:2]


def test_sources_of_another_release() -> None:
    """Another release comes from the same mirror, under the keys that it trusts itself."""
    planned = fresh.plan_sources(SOURCES, "trixie", "bookworm")
    assert [(one.suite, one.signed_by) for one in planned] == [("bookworm", ""), ("bookworm-updates", "")]


def test_machine_without_its_own_release() -> None:
    """Where no signed source has the machine's release, that is said."""
    with pytest.raises(fresh.start.Failure, match="noble: no signed source has it"):
        fresh.plan_sources(SOURCES, "noble", "noble")


def test_minimal_root_has_python_and_certificates_alone() -> None:
    """The root is made with python3 and ca-certificates and no recommendation of a package that would hide a lack."""
    command = fresh.plan_command(Path("/f"), "trixie", ['Acquire::http::Proxy "p";'])
    assert "--variant=minbase" in command
    assert "--include=python3,ca-certificates" in command
    assert '--aptopt=Acquire::http::Proxy "p";' in command
    assert command[-3:] == ["trixie", "/f/root", "/f/host.sources"]


def test_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user is told the command."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(fresh.start.Failure, match=r"not root\n  remedy: run `sudo python3 start\.py fresh`"):
        fresh.check_tools()
