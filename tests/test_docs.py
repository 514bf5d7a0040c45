"""The guide and the README: their links lead somewhere, their code can be read, their names are real."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kernelproof.conformance.catalogue import _KEYS as KEYS
from kernelproof.conformance.catalogue import parse_catalogue
from kernelproof.conformance.requirements import _WORDS as WORDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MADE_FOR_THE_SITE = "project"  # a folder of pages that stand for README.md and its neighbours
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)\)")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python3 start\.py ([a-z]\w*)")


def blocks(page: Path, language: str) -> list[str]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [re.sub(rf"(?m)^{indent}", "", text) for indent, kind, text in found if kind == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Every link between pages leads to a file."""
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_can_be_read(page: Path) -> None:
    """Every Python example is Python."""
    for text in blocks(page, "python"):
        ast.parse(text)


def test_named_sessions_exist() -> None:
    """Every session that a page names is in the menu."""
    menu = subprocess.run([sys.executable, "start.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    named = {name for page in PAGES for name in COMMAND.findall(page.read_text(encoding="utf-8"))}
    assert {"tests", "conformance", "fresh"} <= named
    assert {name for name in named if f"\n  {name} " not in menu.stdout} == set()


def test_every_page_is_reachable() -> None:
    """The guide's index leads to every page of the guide, by way of others where there are many."""
    docs = ROOT / "docs"
    reached, waiting = set(), [docs / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_relative_to(docs):
            reached.add(page)
            waiting += [(page.parent / target).resolve() for target in LINK.findall(page.read_text(encoding="utf-8"))]
    assert {page for page in docs.rglob("*.md") if page.parent.name != MADE_FOR_THE_SITE} - reached == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_toml_can_be_read(page: Path) -> None:
    """Every TOML example is TOML, and an example of a catalogue's entries is one, but for what continues another."""
    for text in blocks(page, "toml"):
        tomllib.loads(text)
        if "[[behaviour]]" in text and "[[behaviour.deviations]]" not in text:
            assert parse_catalogue([(page, text.encode())]).entries


def test_catalogue_page_has_every_key() -> None:
    """The reference of the catalogue explains every key that an entry may have, and every plain word of `needs`."""
    page = ROOT / "docs/reference/catalogue.md"
    text = page.read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?m)^\| `([a-z]+)` \|", text)) == sorted(KEYS)
    assert set(WORDS) <= set(re.findall(r"`([a-z0-9_-]+)`", text))
    (example,) = blocks(page, "toml")
    assert set(tomllib.loads(example)["behaviour"][0]) == set(KEYS)


def test_site_has_every_page() -> None:
    """The site's table of contents names each page once, and the packages that there are."""
    names = re.findall(r'"((?:[a-z-]+/)?[A-Za-z-]+)"', (ROOT / "docs/conf.py").read_text(encoding="utf-8"))
    pages = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in (ROOT / "docs").rglob("*.md")}
    made = {f"reference/{name}" for name in names} | {page for page in pages if page.startswith(("rules/", "example/"))}
    assert pages - {"index"} - made - set(names) == set()
    assert {page.stem for page in (ROOT / "docs/reference").glob("*.md")} >= {
        path.parent.name for path in (ROOT / "impl").glob("[a-z]*/__init__.py")
    } - {"tests"}


def test_ci_runs_the_documented_command() -> None:
    """CI runs the README's test command and nothing more."""
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -eu", 'cd "$(dirname "$0")/.."', "exec python3 start.py tests"]
    assert "\npython3 start.py tests " in (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_knows_which_packages_are_there() -> None:
    """The table names all eight packages, and says of each whether it is there."""
    there = {path.parent.name for path in (ROOT / "impl").glob("[a-z]*/__init__.py")}
    rows = re.findall(r"(?m)^\| (`[a-z]+`.*?) \| (.*) \|$", (ROOT / "README.md").read_text(encoding="utf-8"))
    promised = {name: "not there yet" not in state for cell, state in rows for name in re.findall(r"`([a-z]+)`", cell)}
    packages = {"netlink", "mount", "cgroups", "user", "term", "listenbuffer", "graphdb", "libcontainer"}
    assert set(promised) == packages
    assert {name for name, is_there in promised.items() if is_there} == there & packages
