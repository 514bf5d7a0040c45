"""Badges: an SVG that says in one line how a kernel stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kernelproof.conformance.report.markup import element
from kernelproof.conformance.report.matrix import ALARMS, JUDGED, Site, State

_WIDE, _NARROW = frozenset("mwMW%@≠"), frozenset("iljtfr.,:;'|! ()/1")
_GOOD, _BAD, _NONE = "#2f6f52", "#a32a22", "#5d6168"


def format_badges(site: Site) -> Iterator[tuple[str, str]]:
    """Name and text of each file: one a kernel, one for all."""
    total: Counter[State] = Counter()
    for number, column in enumerate(site.columns):
        counts = site.count(site.statements, number)
        total += counts
        yield f"badge/{column.file}.svg", format_badge(f"Linux {column.name}", *describe(counts))
    yield "badge/all.svg", format_badge("documented behaviour", *describe(total))


def describe(counts: Counter[State]) -> tuple[str, str]:
    """What a badge says, and its colour. Pure."""
    judged = sum(counts[state] for state in JUDGED)
    if not judged:
        return "not run", _NONE
    alarms = [f"{counts[state]} {state.words}" for state in ALARMS if counts[state]]
    words = [*alarms, f"{counts[State.PASS]} pass"]
    if counts[State.DEVIATION]:
        words.append(f"{counts[State.DEVIATION]} deviate")
    return ", ".join(words), _BAD if alarms else _GOOD


def format_badge(label: str, text: str, colour: str) -> str:
    """The SVG; its words are a title too, for screen readers. Pure."""
    left, right = _width(label), _width(text)
    shapes = (
        element("rect", width=left, height="20", fill="#33363c"),
        element("rect", x=left, width=right, height="20", fill=colour),
    )
    font = {"font-family": "Verdana,DejaVu Sans,sans-serif", "font-size": "11", "fill": "#fff", "text-anchor": "middle"}
    texts = (
        element("text", label, x=f"{left / 2:g}", y="14"),
        element("text", text, x=f"{left + right / 2:g}", y="14"),
    )
    words = element("title", f"{label}: {text}")
    clip = element("clipPath", element("rect", width=left + right, height="20", rx="3"), id="r")
    shown = element("g", *shapes, clip_path="url(#r)")
    return element(
        "svg",
        words,
        clip,
        shown,
        element("g", *texts, **font),
        xmlns="http://www.w3.org/2000/svg",
        width=left + right,
        height=20,
        role="img",
        aria_label=f"{label}: {text}",
    )


def _width(text: str) -> int:
    units = sum(10.5 if sign in _WIDE else 4.2 if sign in _NARROW else 7.2 for sign in text)
    return round(units) + 12
