"""Who did the same work in the same machines, side by side: a part of a subsystem's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kernelproof.conformance.report.behaviour_page import behaviour_path
from kernelproof.conformance.report.markup import Markup, element
from kernelproof.conformance.report.matrix import Cell, Site, State
from kernelproof.conformance.report.outcomes import worst
from kernelproof.conformance.report.page_frame import breakable, sign, state_sign
from kernelproof.conformance.report.statements import Statement

OURS = "ours"


def format_side_by_side(site: Site, statements: Sequence[Statement]) -> Markup | None:
    """The table of these statements; None where no peer was asked about any.

    Args:
        site: The report.
        statements: Of one subsystem.
    """
    names = sorted({row.subject for one in statements for cell in site.cells[one.id] for row in cell.peers})
    if not names:
        return None
    asked = [one for one in statements if any(cell.peers for cell in site.cells[one.id])]
    subjects = (OURS, *names)
    groups = [
        element("th", column.name, scope="colgroup", colspan=str(len(subjects)), class_="k") for column in site.columns
    ]
    heads = [element("th", name, scope="col", class_="k") for _ in site.columns for name in subjects]
    corner = element("th", "Statement", scope="col", rowspan="2")
    rows = [_format_row(site, one, subjects) for one in asked]
    table = element(
        "table",
        element("caption", "Who does the same work beside it", class_="unseen"),
        element("thead", element("tr", corner, *groups), element("tr", *heads)),
        element("tbody", *rows),
        class_="long",
    )
    counts = [element("li", element("b", name), ": ", *_format_counts(site, asked, name)) for name in subjects]
    return element(
        "section",
        element("h2", "Side by side", id="side-by-side"),
        element("p", "The same tests in the same machines; of these, only ours answer for the kernel.", class_="sub"),
        element("ul", *counts, class_="steps"),
        element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Side by side"),
    )


def state_of(cell: Cell, subject: str) -> State:
    """What became of a statement on a kernel for a subject; the worst of several items. Pure."""
    if subject == OURS:
        return cell.state
    outcomes = [row.outcome for row in cell.peers if row.subject == subject]
    return State(worst(outcomes).value) if outcomes else State.NOT_RUN


def _format_row(site: Site, statement: Statement, subjects: Sequence[str]) -> Markup:
    link = element("a", breakable(statement.id), href=f"../{behaviour_path(statement.id)}", class_="id")
    pairs = zip(site.columns, site.cells[statement.id], strict=True)
    cells = [
        element("td", state_sign(state_of(cell, name)), class_="k", data_k=f"{column.name} {name}")
        for column, cell in pairs
        for name in subjects
    ]
    return element("tr", element("th", link, element("span", statement.statement, class_="says"), scope="row"), *cells)


def _format_counts(site: Site, statements: Sequence[Statement], subject: str) -> list[Markup | str]:
    counts = Counter(state_of(cell, subject) for one in statements for cell in site.cells[one.id])
    parts: list[Markup | str] = []
    for state in State:
        if counts[state]:
            parts += [sign(state), " ", element("b", counts[state]), "  "]
    return parts
