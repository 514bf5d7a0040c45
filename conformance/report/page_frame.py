"""What all pages share: head, navigation, foot, and the small signs that stand for a state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from kernelproof.conformance.report.markup import Child, Markup, element, escape_text, join
from kernelproof.conformance.report.matrix import Cell, Site, State

# Nothing is fetched from elsewhere, and nothing that a guest wrote can run, should it ever get past the escaping.
_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
PAGES = (
    ("index.html", "Matrix"),
    ("explore.html", "Behaviours"),
    ("changes.html", "What changed"),
    ("deviations.html", "Deviations"),
    ("kernels.html", "Kernels"),
    ("about.html", "About"),
)


class Page(NamedTuple):
    """A page without its frame.

    Args:
        path: Below the site's folder.
        title: For the window, and for search engines.
        body: What `main` holds.
        script: Whether it needs the data that scripts read.
    """

    path: str
    title: str
    body: Markup
    script: bool = False


def format_page(page: Page, name: str) -> str:
    """The whole document.

    Args:
        page: What it holds.
        name: Of the report, for titles and the head.
    """
    up = "../" * page.path.count("/")
    head = element("head", _format_head(up, page.script), element("title", f"{page.title} · {name}"))
    top = _format_top(up, page.path if (page.path, page.title) in PAGES else "", name)
    body = element("body", top, element("main", page.body, id="main", tabindex="-1"), _format_foot(up))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


# The same for thousands of pages.
@cache
def _format_head(up: str, script: bool) -> Markup:
    scripts = ("data.js", "site.js") if script else ("site.js",)
    return join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href=f"{up}icon.svg", type="image/svg+xml"),
        element("link", rel="stylesheet", href=f"{up}site.css"),
        element("script", src=f"{up}theme.js"),
        *(element("script", src=f"{up}{script}", defer=True) for script in scripts),
    )


@cache
def _format_top(up: str, path: str, name: str) -> Markup:
    links = [
        element("li", element("a", text, href=f"{up}{file}", aria_current="page" if file == path else None))
        for file, text in PAGES
    ]
    theme = element("button", "Theme", type="button", class_="theme", hidden=True)
    brand = element("a", element("span", "≠", class_="mark", aria_hidden="true"), name, href=f"{up}index.html")
    header = element(
        "header",
        element("p", brand, class_="brand"),
        element("nav", element("ul", *links), aria_label="Pages"),
        theme,
        class_="top",
    )
    return join(element("a", "Skip to content", href="#main", class_="skip"), header)


@cache
def _format_foot(up: str) -> Markup:
    data = element("a", "data.json", href=f"{up}data.json")
    schema = element("a", "its schema", href=f"{up}data.schema.json")
    about = element("a", "what the words mean", href=f"{up}about.html")
    made = "Made by kernelproof: what the documents say, what the kernels do. "
    return element("footer", element("p", made, data, ", ", schema, ", ", about, "."), class_="foot")


@cache
def sign(state: State) -> Markup:
    """A state as a small sign with its words beside it."""
    glyph = None
    if state.glyph:
        glyph = element("span", state.glyph, class_=f"sign s-{state.value}", aria_hidden="true")
    return element("span", glyph, element("span", state.words, class_="words"), class_="state")


# One cell of a long table: so many of them that it is made once for each state.
_CELL_SIGNS = {
    state: element("span", state.glyph, class_=f"sign s-{state.value}", role="img", aria_label=state.words)
    if state.glyph
    else element("span", state.words, class_="unseen")
    for state in State
}


def cell_sign(cell: Cell) -> Markup:
    """A state as a sign alone, its words for who does not see it."""
    return _CELL_SIGNS[cell.state]


def state_sign(state: State) -> Markup:
    """As `cell_sign`, of a state alone."""
    return _CELL_SIGNS[state]


def breakable(name: str) -> Markup:
    """An id that may be broken behind its dots."""
    parts = [escape_text(part) for part in name.split(".")]
    return Markup(".<wbr>".join(parts))


def crumbs(*links: tuple[str | None, str]) -> Markup:
    """Where this page stands: address and text of what is above it, the last without address."""
    items = [
        element("li", element("a", text, href=address) if address else element("span", text, aria_current="page"))
        for address, text in links
    ]
    return element("nav", element("ol", *items), class_="crumbs", aria_label="Place")


def facts(pairs: Sequence[tuple[str, Child]], class_: str = "facts") -> Markup:
    """Names and values; those without value are left away."""
    shown = [element("div", element("dt", name), element("dd", value)) for name, value in pairs if value]
    return element("dl", *shown, class_=class_)


def format_value(value: object) -> str:
    """A value as a witness prints it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def format_seconds(seconds: float | None) -> str:
    """A duration for people: three digits."""
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def notices(site: Site) -> Markup | None:
    """What the reader must know before believing a number: what was left out, what is a part, what is of old."""
    lines = [join(element("strong", "Left out: "), one.file, ": ", one.why) for one in site.left_out]
    parts: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for column in site.columns:
        results = column.results
        if not results.is_whole:
            parts.setdefault("; ".join(results.selection) or "the run did not end", []).append(column.name)
        if results.catalogue_digest != site.catalogue_digest:
            others.setdefault(results.catalogue_digest[:12], []).append(column.name)
    for why, names in parts.items():
        lines.append(join(element("strong", f"Not a whole run: {', '.join(names)}"), f" ({why})"))
    for digest, names in others.items():
        text = f" (theirs was {digest}, the statements here are of {site.catalogue_digest[:12]})"
        lines.append(join(element("strong", f"Of another catalogue: {', '.join(names)}"), text))
    if not lines:
        return None
    title = element("h2", "Before you read", id="notices")
    return element("section", title, element("ul", *(element("li", line) for line in lines)), class_="notices")
