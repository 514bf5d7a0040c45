"""The report's files: what is on them, that nothing from outside becomes markup, that all links lead somewhere."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import jsonschema
import pytest

from kernelproof.conformance.report.badges import describe, format_badge
from kernelproof.conformance.report.markup import Markup, element, escape_text, join
from kernelproof.conformance.report.matrix import State, excerpt, kernel_order
from kernelproof.conformance.report.site_pages import STATIC

if TYPE_CHECKING:
    from conftest import Suite

ROW = {
    **{"node": "t.py::t", "profile": "plain", "subject": "impl", "outcome": "pass", "clone": None, "reason": None},
    **{"wall_seconds": None, "guest_seconds": None, "seen": None, "log": None},
}
_VOID = {"br", "link", "meta", "input", "img", "wbr"}


class Reader(HTMLParser):
    """Reads a page strictly: elements close in order; collects elements, attributes, ids, links, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        found = dict(attrs)
        assert len(found) == len(attrs)
        self.attributes |= found.keys()
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(site: Path) -> Iterator[tuple[Path, Reader]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Reader(path.read_text("utf-8"))


def test_text_is_escaped_and_markup_is_not() -> None:
    """A text never becomes markup, in content or in an attribute; only what `element` made is taken as it is."""
    assert element("p", "<b>", element("b", 1), None, class_='"x', hidden=True) == (
        '<p class="&quot;x" hidden>&lt;b&gt;<b>1</b></p>'
    )
    assert join("a & b", Markup("<br>")) == "a &amp; b<br>"
    assert element("br", data_k="it's") == '<br data-k="it&#x27;s">'


def test_unseen_signs_are_spelled() -> None:
    """What can't be seen, turns the text or is no HTML at all is shown by its number; tabs and lines stay."""
    assert escape_text("a\x1b[2J\x00\t\n\u202e\ud800é") == "a\\x1b[2J\\x00\t\n\\u202e\\ud800é"


def test_every_sign_comes_back_or_is_spelled() -> None:
    """An escaped text, read as HTML, is the text or its signs' numbers."""
    for code in (*range(0x300), 0x2028, 0xD800, 0xFEFF, 0xFFFF, 0x1F600):
        text = f"<{chr(code)}>"
        seen = Reader(f"<p>{escape_text(text)}</p>").text
        assert seen in (text, f"<\\x{code:02x}>", f"<\\u{code:04x}>"), code


def test_links_lead_somewhere(shown_site: Path) -> None:
    """Every link of every page leads to a file of the report, and to an id of it where one is named."""
    read = dict(pages(shown_site))
    assert len(read) == 6 + 2 + 3 + 6
    for path, reader in read.items():
        assert len(set(reader.ids)) == len(reader.ids), path
        for link in reader.links:
            file, _, place = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), (path, link)
            if place and "=" not in place:
                assert place in read[target].ids, (path, link)


def test_nothing_of_a_guest_becomes_markup(shown_site: Path) -> None:
    """A guest that writes HTML into reasons, logs, names and facts is shown as it is: as text, unseen signs spelled."""
    told = ""
    for path, reader in pages(shown_site):
        assert reader.elements.count("script") <= 3, path
        assert not [name for name in reader.attributes if name.startswith("on") or name == "style"]
        assert "x" not in reader.links
        told += reader.text
    assert "document.title='owned'" in told
    assert "\\x1b[2J\\x00\\u202e" in told
    for path in shown_site.rglob("*"):
        if path.is_file():
            assert not re.search("[\x00\x1b\u202e]", path.read_text("utf-8")), path


def test_no_page_asks_the_network(shown_site: Path) -> None:
    """Nothing is fetched from elsewhere, and the policy of every page forbids it."""
    for path in shown_site.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text("utf-8")
            assert not re.search(r"(?:src|href)=.?(?:https?:)?//|url\(|@import|fetch\(", text), path
            assert path.suffix != ".html" or "default-src &#x27;none&#x27;" in text


def test_behaviour_page(site: Suite) -> None:
    """A statement's page has statement, source, needs, test, outcome and duration a kernel, and the end of the log."""
    reader = Reader(site.read("behaviour/link.name.length.html"))
    text = " ".join(reader.text.split())
    for said in (
        "A name of 16 bytes is <refused> & 'told'.",
        "netdevice(7), DESCRIPTION",
        "CAP_NET_ADMIN",
        "The limit counts the NUL.",
        "suite/test_all.py:4",
        'assert "<b>" in kernel',
        "5.10✓pass0.25 splain",
        "2 items0.5 splain",
    ):
        assert said in text, said
    assert "[    2.79]" in reader.text
    assert "first line" not in reader.text
    assert "[…]" in reader.text


def test_deviation_is_told_once(site: Suite) -> None:
    """A known deviation has value, kernels, since when, places in the kernel and its witness as a file that runs."""
    text = Reader(site.read("behaviour/link.name.up.html")).text
    assert text.count("takes it since Linux 6.2") == 1
    for said in ("(here: 6.12)", "dev_change_name() in net/core/dev.c, commit bd039b5ea2a9", "runc beside it: ✕fail"):
        assert said in text
    assert "kernelproof run --kernel 6.12 -- python3 suite/witnesses/rename.py" in text
    assert site.read("witness/rename.py") == (site.path / "suite/witnesses/rename.py").read_text()
    assert "SinceLinux 6.2" in Reader(site.read("deviations.html")).text


def test_states(site: Suite) -> None:
    """Each cell says what became of the statement, and why where nothing did; the data says it likewise."""
    data = json.loads(site.read("data.json"))
    schema = json.loads(site.read("data.schema.json"))
    jsonschema.Draft202012Validator(schema).validate(data)
    seen = {
        entry["id"]: [entry["outcomes"][kernel]["state"] for kernel in ("5.10", "6.1", "6.12")]
        for entry in data["behaviours"]
    }
    assert seen == {
        "link.mtu.huge": ["pass", "not_applicable", "broken"],
        "link.name.length": ["pass", "pass", "fail"],
        "link.name.up": ["pass", "pass", "deviation"],
        "mount.beneath.new": ["outside", "outside", "pass"],
        "mount.flags.old": ["pass", "pass", "pass"],
        "mount.flags.planned": ["planned", "planned", "planned"],
    }
    assert [kernel["name"] for kernel in data["kernels"]] == ["5.10", "6.1", "6.12"]


def test_a_test_without_a_row_is_not_planned(suite: Suite) -> None:
    """A statement with a test that these results say nothing of is not run; one without test is planned."""
    suite.write("6.12", {**ROW, "behaviour": "link.name.up"})
    assert suite.report("-q") == 0
    data = json.loads(suite.read("data.json"))
    seen = {entry["id"]: entry["outcomes"]["6.12"]["state"] for entry in data["behaviours"]}
    assert (seen["link.name.length"], seen["mount.flags.planned"]) == ("not_run", "planned")


def test_script_data_says_the_same(site: Suite) -> None:
    """What search and filters read has every statement with one letter a kernel."""
    text = site.read("data.js")
    literal = text.removeprefix("window.kernelproofData = JSON.parse(").removesuffix(");\n")
    data = json.loads(json.loads(literal))
    assert {row[0]: row[4] for row in data["rows"]}["link.mtu.huge"] == "pnb"
    assert next(row[5] for row in data["rows"] if row[0] == "link.name.up") == {"2": '["no error"]'}
    assert all(len(row[4]) == 3 for row in data["rows"])


def test_matrix(site: Suite) -> None:
    """The matrix has a row a subsystem and a column a kernel; a cell counts and leads to the kernel's part."""
    text = site.read("index.html")
    assert 'href="kernel/6.12.html#link"' in text
    words = " ".join(Reader(text).text.split())
    assert "link32/3" not in words  # 6.1 has two and one not applicable
    assert "0/3 pass✕1 fail!1 broken≠1 deviation" in words
    assert "6.1 → 6.123 regressions" in words


def test_badges(site: Suite) -> None:
    """A badge is XML that says its words to everyone; red where something failed, grey where nothing ran."""
    for name in ("all", "5.10", "6.12"):
        ElementTree.fromstring(site.read(f"badge/{name}.svg"))
    assert "Linux 6.12: 1 fail, 1 broken, 2 pass, 1 deviate" in site.read("badge/6.12.svg")
    assert "Linux 5.10: 4 pass" in site.read("badge/5.10.svg")
    assert describe(Counter())[0] == "not run"
    assert "<title>&lt;: &amp;</title>" in format_badge("<", "&", "#000")


def test_the_same_results_make_the_same_report(site: Suite) -> None:
    """A report made again is the same, byte by byte."""
    before = {path: path.read_bytes() for path in (site.path / "site").rglob("*") if path.is_file()}
    assert site.report("-q") == 0
    assert {path: path.read_bytes() for path in (site.path / "site").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["6.12", "6.1", "5.10"], ["5.10", "6.1", "6.12"]),
        (["image-6.13.0", "image-6.13.0-rc2+", "6.13", "image-6.12.9"], ["image-6.12.9", "image-6.13.0-rc2+", "6.13",
                                                                         "image-6.13.0"]),
        (["userland", "7.3"], ["7.3", "userland"]),
    ],
    ids=["series", "candidates", "others"],
)  # fmt: skip
def test_kernels_are_in_their_order(names: list[str], order: list[str]) -> None:
    """Kernels are sorted as numbers; a candidate comes before its release."""
    assert sorted(names, key=kernel_order) == order


@pytest.mark.parametrize("lines", [1, 60, 61, 500])
def test_excerpt_is_the_end(lines: int) -> None:
    """What is shown of a log is its last 60 lines, and it says so when there are more."""
    text = "\n".join(f"line {number}" for number in range(lines)) + "\n"
    shown = excerpt(text).splitlines()
    assert shown[-1] == f"line {lines - 1}"
    assert len(shown) == min(lines, 61)
    assert (shown[0] == "[…]") is (lines > 60)
    assert len(excerpt("x" * 10_000)) < 6100


def test_every_state_has_letter_words_and_schema() -> None:
    """No state is without a letter of its own, words, and a place in the schema."""
    assert len({state.letter for state in State}) == len(State)
    schema: Any = json.loads((STATIC / "data.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["$defs"]["cell"]["properties"]["state"]["enum"]) == {state.value for state in State}
    css = (STATIC / "site.css").read_text("utf-8")
    assert [state for state in State if state.glyph and f".s-{state.value}" not in css] == []


def test_side_by_side(suite: Suite) -> None:
    """Who did the same work stands beside the project's own, statement by kernel and subject; else nothing does."""
    suite.write_all()
    assert suite.report() == 0
    text = Reader(suite.read("subsystem/link.html")).text
    assert "Side by side" in text
    assert "oursrunc" in text
    assert "runc: fail 1" in text.replace("✕", "")
    assert "Side by side" not in Reader(suite.read("subsystem/mount.html")).text
