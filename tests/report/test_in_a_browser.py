"""The report in a real browser: search, filters, keys, a phone, paper, themes, and what axe says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernelproof.conformance.report.comparison import Answer, find_kind
from kernelproof.conformance.report.outcomes import Outcome

Open = Callable[..., Any]
PAGES = (
    *("index.html", "explore.html", "changes.html", "deviations.html", "kernels.html", "about.html"),
    *("subsystem/link.html", "kernel/6.12.html", "behaviour/link.name.length.html", "behaviour/link.name.up.html"),
)
IDS = "[...document.querySelectorAll('#found .id')].map((link) => link.textContent)"
SET = """
(name, value) => {
  const field = document.forms[0].elements[name];
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}
"""
FOCUSED = "document.activeElement.textContent"


def choose(page: Any, **fields: str) -> None:
    for name, value in fields.items():
        page.evaluate(f"({SET})({json.dumps(name.rstrip('_'))}, {json.dumps(value)})")


def test_guest_text_runs_nowhere(open_page: Open) -> None:
    """What a lying guest wrote is text on every page: its script never runs, and the policy had nothing to refuse."""
    for address in PAGES:
        page = open_page(address)
        page.evaluate("new Promise(requestAnimationFrame)")
        assert page.evaluate("document.title") != "owned"
        assert page.evaluate("document.querySelectorAll('main img:not([alt]), main script').length") == 0
        assert page.complaints() == []


def test_search_as_you_type(open_page: Open) -> None:
    """Each letter narrows what is shown; id, statement and document are searched; the address keeps it."""
    page = open_page("explore.html")
    assert page.evaluate("document.querySelector('#count').textContent") == "6 statements"
    page.press("/")
    page.type("siocsifname")
    assert page.evaluate(IDS) == ["link.name.up"]
    assert page.evaluate("location.hash") == "#q=siocsifname"
    choose(page, q="name <refused> 'told'")
    assert page.evaluate(IDS) == ["link.name.length"]
    choose(page, q="nothing like it")
    assert page.evaluate("document.querySelector('#count').textContent") == "None of 6 statements: loosen a filter"
    page.evaluate("document.querySelector('[type=reset]').click()")
    assert len(page.evaluate(f"new Promise((done) => setTimeout(() => done({IDS})))")) == 6


def test_filters(open_page: Open) -> None:
    """Kernel, outcome, subsystem and `changed between` narrow what is shown, alone and together; worst come first."""
    page = open_page("explore.html")
    assert page.evaluate(IDS)[:3] == ["link.mtu.huge", "link.name.length", "link.name.up"]
    choose(page, order="id", subsystem="mount")
    assert page.evaluate(IDS) == ["mount.beneath.new", "mount.flags.old", "mount.flags.planned"]
    choose(page, kernel="6.1")
    assert page.evaluate(IDS) == ["mount.flags.old"]
    choose(page, subsystem="", from_="6.1", to="6.12", kernel="")
    assert page.evaluate(IDS) == ["link.mtu.huge", "link.name.length", "link.name.up", "mount.beneath.new"]
    page.evaluate("document.querySelector('[value=deviation]').click()")
    assert page.evaluate(IDS) == ["link.name.up"]


def test_addresses_are_permanent(open_page: Open) -> None:
    """What was chosen is in the address: opened again it shows the same, fields included."""
    page = open_page("explore.html#kernel=6.12&outcome=fail,broken")
    assert page.evaluate(IDS) == ["link.mtu.huge", "link.name.length"]
    assert page.evaluate("document.querySelector('[value=broken]').checked")
    page = open_page("explore.html#q=%3Cimg src=x%3E&kernel=none")
    assert page.evaluate(IDS) == []
    assert page.evaluate("document.forms[0].elements.kernel.value") == ""


def test_what_changed(open_page: Open) -> None:
    """Two kernels of the reader's choice: regressions first, with both answers and values; swapped, improvements."""
    page = open_page("changes.html#from=6.1&to=6.12")
    titles = "[...document.querySelectorAll('#changes h2')].map((title) => title.textContent)"
    assert page.evaluate(titles) == ["Regressions 3", "Newly answered 1"]
    words = page.evaluate("document.querySelector('#changes').textContent")
    assert '≠deviation ["no error"]' in words
    page.evaluate("document.querySelector('#swap').click()")
    assert page.evaluate(titles) == ["Improvements 2", "No longer answered 2"]
    assert page.evaluate("location.hash") == "#from=6.12&to=6.1"


def test_the_script_has_the_rules_of_the_command(open_page: Open) -> None:
    """For every pair of answers the page says the same kind of change as `kernelproof diff`."""
    page = open_page("explore.html")
    # The rules are not reachable from outside: they are asked by filters over rows made for it.
    states: dict[str, str | None] = {**{"r": None, "o": None, "t": None}, **dict(zip("npdfb", OUTCOMES, strict=True))}
    pairs = [(one, other) for one in states for other in states]
    rows = [[f"x.x.{one}-{other}", "", "", 0, one + other] for one, other in pairs]
    script = Path(__file__).parents[2] / "conformance/report/static/site.js"
    data = page.evaluate("JSON.stringify(kernelproofData)")
    made = {**json.loads(data), "kernels": ["6.1", "6.12"], "rows": rows}
    page.go(page.evaluate("location.href").replace("explore", "changes"))
    page.evaluate(f"window.kernelproofData = {json.dumps(made)}; STEP = 999; 0")
    page.evaluate("for (const select of document.querySelectorAll('#pair select'))"
                  " select.replaceChildren(...kernelproofData.kernels.map((name) => new Option(name)))")  # fmt: skip
    page.evaluate(script.read_text("utf-8") + ";0")
    lists = "[...document.querySelectorAll('#changes section')].map((part) => [part.className.split('c-')[1],"
    found = page.evaluate(lists + " [...part.querySelectorAll('.id')].map((link) => link.textContent)])")
    said = {name: kind for kind, names in found for name in names}
    for one, other in pairs:
        kind = find_kind(*(answer(states[state]) for state in (one, other)))
        assert said.get(f"x.x.{one}-{other}") == (None if kind is None else kind.value), (one, other)


OUTCOMES = ("not_applicable", "pass", "deviation", "fail", "broken")


def answer(outcome: str | None) -> Answer | None:
    return None if outcome is None else Answer(Outcome(outcome), None, None)


def test_by_keys_alone(open_page: Open) -> None:
    """The first Tab leads past the head; what has the focus shows it; Enter follows a link; no trap."""
    page = open_page("index.html")
    page.press("Tab")
    assert page.evaluate(FOCUSED) == "Skip to content"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(60):
        page.press("Tab")
        seen.append(page.evaluate(FOCUSED))
        if seen[-1] == "link":
            break
    assert seen[-1] == "link"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page = open_page("subsystem/link.html")
    page.press("/")
    page.evaluate("new Promise((done) => setTimeout(done))")
    assert page.evaluate("location.pathname").endswith("/explore.html")


def test_themes(open_page: Open) -> None:
    """The reader's choice of light or dark is the system's until the button changes it, and is kept."""
    ground = "getComputedStyle(document.body).backgroundColor"
    page = open_page("index.html", dark=True)
    dark = page.evaluate(ground)
    page.evaluate("document.querySelector('.theme').click()")
    light = page.evaluate(ground)
    assert dark != light
    again = open_page("about.html", dark=True)
    assert again.evaluate(ground) == light
    assert again.evaluate("document.querySelector('.theme').getAttribute('aria-label')") == "Change to the dark theme"
    again.evaluate("localStorage.clear()")


@pytest.mark.parametrize("address", PAGES)
def test_on_a_phone(open_page: Open, address: str) -> None:
    """At 360 pixels no page is wider than the screen; what is wider scrolls by itself."""
    page = open_page(address, width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_on_paper(open_page: Open) -> None:
    """Printed, a page has no navigation and no filters, is on white, and folded parts are open."""
    page = open_page("behaviour/link.name.up.html", dark=True)
    page.set_media(print=True, dark=True)
    shown = "getComputedStyle(document.querySelector('{}')).display"
    assert page.evaluate(shown.format(".top nav")) == "none"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every((part) => part.open)")
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts(open_page: Open) -> None:
    """Without JavaScript every statement is reached by plain pages, and the pages that need it say so."""
    page = open_page("subsystem/link.html", scripts=False)
    tree = page.call("DOM.getDocument", depth=-1)
    assert "link.mtu" in json.dumps(tree)
    page = open_page("explore.html", scripts=False)
    found = page.call("DOM.getOuterHTML", nodeId=page.call("DOM.getDocument")["root"]["nodeId"])["outerHTML"]
    assert "Search and filters need JavaScript" in found


@pytest.mark.parametrize("view", [{"width": 1280}, {"width": 390, "dark": True}], ids=["wide light", "narrow dark"])
def test_accessibility(open_page: Open, view: dict[str, Any]) -> None:
    """axe finds nothing on any page."""
    named = os.environ.get("KERNELPROOF_AXE")
    if not named:
        pytest.skip("no axe-core: `python3 start.py report` fetches it, KERNELPROOF_AXE names its axe.min.js")
    axe = Path(named).read_text("utf-8")
    found = []
    for address in PAGES:
        page = open_page(address, **view)
        page.evaluate(f"{axe};0")
        told = page.evaluate("axe.run({preload: false}).then((said) => said.violations.map("
                             "(one) => [one.id, one.nodes.map((node) => node.html)]))")  # fmt: skip
        found += [(address, *one) for one in told]
        assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert found == []
