"""The page of one statement: what is promised, by whom, what each kernel does, and how it is tested."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from kernelproof.conformance.report.markup import Markup, element, join
from kernelproof.conformance.report.matrix import Cell, Column, Site, State, excerpt
from kernelproof.conformance.report.outcomes import Outcome
from kernelproof.conformance.report.page_frame import (
    Page,
    breakable,
    crumbs,
    facts,
    format_seconds,
    format_value,
    sign,
)
from kernelproof.conformance.report.records import Row
from kernelproof.conformance.report.statements import KnownDeviation, Statement

_EMPTY = element("td")
_ROWS = 40  # items of a cell that are shown one by one


def behaviour_path(behaviour: str) -> str:
    """Its permanent address, below the site's folder."""
    return f"behaviour/{behaviour}.html"


def witness_path(one: KnownDeviation) -> str:
    """Where a witness lies as a file of its own, below the site's folder."""
    return f"witness/{one.witness.rpartition('/')[2]}"


def format_behaviour(site: Site, statement: Statement) -> Page:
    """The page of a statement."""
    cells = site.cells[statement.id]
    address = f"../subsystem/{statement.subsystem}.html"
    head = element(
        "div",
        crumbs(
            ("../index.html", "Matrix"),
            (address, statement.subsystem),
            (f"{address}#{statement.topic}", statement.topic),
            (None, statement.id.rpartition(".")[2]),
        ),
        element("h1", breakable(statement.id), class_="id"),
        element("blockquote", element("p", statement.statement), class_="statement"),
        element("p", statement.source, class_="source"),
        class_="head",
    )
    about = facts(
        [
            ("Needs", ", ".join(statement.needs)),
            ("Meant for", statement.kernels and f"kernels {statement.kernels}"),
            ("Since", statement.since and f"Linux {statement.since}"),
            ("Of", None if statement.of == "kernel" else statement.of),
            ("Note", statement.note),
            ("Suspected", statement.suspected),
        ]
    )
    body = join(
        head,
        about if "<dt>" in about else None,
        _format_outcomes(site, cells),
        *(_format_deviation(statement, one) for one in statement.deviations),
        *_format_tests(statement),
    )
    return Page(behaviour_path(statement.id), statement.id, body)


def _format_outcomes(site: Site, cells: tuple[Cell, ...]) -> Markup:
    names = ("Kernel", "Outcome", "Seen", "Took", "Machine")
    heads = [element("th", name, scope="col") for name in names]
    bodies = [element("tbody", *_outcome_rows(*pair)) for pair in zip(site.columns, cells, strict=True)]
    table = element("table", element("thead", element("tr", *heads)), *bodies, class_="outcomes")
    title = element("h2", "What the kernels do", id="outcomes")
    return element(
        "section",
        title,
        element("div", table, class_="scroll", tabindex="0", role="region", aria_labelledby="outcomes"),
    )


def _outcome_rows(column: Column, cell: Cell) -> Iterator[Markup]:
    profiles = ", ".join(dict.fromkeys([row.profile for row in cell.rows]))
    seen = cell.seen
    before, after = _row_around(column.name, column.file, cell.state, len(cell.rows), profiles)
    yield join(
        before,
        _EMPTY if seen is None else element("td", element("code", format_value(seen)[:400])),
        element("td", format_seconds(cell.seconds), class_="number"),
        after,
    )
    details = [_format_item(row, many=len(cell.rows) > 1) for row in _worth_telling(cell)]
    details += [_format_peer(row) for row in cell.peers]
    if details:
        yield element("tr", element("td", *details, colspan="5"), class_="why")


@cache
def _row_around(name: str, file: str, state: State, items: int, profiles: str) -> tuple[Markup, Markup]:
    # Nine in ten of tens of thousands of rows differ in nothing but seconds: made once, and cut where those stand.
    row = element(
        "tr",
        element("th", element("a", name, href=f"../kernel/{file}.html"), scope="row"),
        element("td", sign(state), element("small", f"{items} items") if items > 1 else None),
        Markup("\0"),
        element("td", profiles),
    )
    before, _, after = row.partition("\0")
    return Markup(before), Markup(after)


def _worth_telling(cell: Cell) -> list[Row]:
    # The reason of a known deviation stands below, once for all kernels.
    known = None if cell.deviation is None else cell.deviation.reason
    rows = [
        row
        for row in cell.rows
        if row.outcome is not Outcome.PASS
        and (row.log or row.outcome is not Outcome.DEVIATION or not known or not (row.reason or "").endswith(known))
    ]
    return rows[:_ROWS]


def _format_item(row: Row, *, many: bool) -> Markup:
    reason = row.reason or ""
    texts: list[Markup] = []
    if many:
        texts.append(element("p", sign(State(row.outcome.value)), " ", element("code", row.node.rpartition("::")[2])))
    if "\n" in reason:
        texts.append(element("pre", excerpt(reason)))
    elif reason:
        texts.append(element("p", excerpt(reason), class_="reason"))
    if row.log:
        log = element("pre", excerpt(row.log))
        texts.append(element("details", element("summary", "Kernel log"), log, open=True, class_="log"))
    return element("div", *texts, class_="item")


def _format_peer(row: Row) -> Markup:
    words = (element("strong", row.subject), " beside it: ", sign(State(row.outcome.value)))
    reason = f" {excerpt(row.reason)}" if row.reason else None
    return element("div", element("p", *words, reason), class_="item")


def _format_deviation(statement: Statement, one: KnownDeviation) -> Markup:
    kernels = ", ".join(one.on) or "none of this report"
    about = facts(
        [
            ("The document", statement.source),
            ("Kernels", f"{one.kernels} (here: {kernels})"),
            ("Seen instead", element("code", format_value(one.seen), class_="value")),
            ("Since", one.since),
            ("In the kernel", ", ".join(one.places)),
            ("Why", one.reason),
        ]
    )
    witness = element(
        "details",
        element("summary", "Witness: ", element("code", witness_path(one).rpartition("/")[2])),
        element(
            "p",
            element("a", "This file", href=f"../{witness_path(one)}", download=True),
            " prints what is seen; it needs nothing but Python:",
        ),
        element("pre", one.command, class_="command"),
        element("pre", element("code", one.source)),
    )
    title = element("h2", "A known deviation", id="deviation")
    return element("section", title, about, witness, class_="deviation")


def _format_tests(statement: Statement) -> Iterator[Markup]:
    for number, test in enumerate(statement.tests):
        title = element("h2", "How it is tested", id="test") if not number else None
        place = element("p", element("code", f"{test.path}:{test.line}"), class_="place")
        code = element("pre", element("code", test.text), tabindex="0")
        yield element("section", title, place, code, class_="test")
    if not statement.tests:
        text = "There is no test yet: the statement is planned, and counted as that."
        yield element("section", element("h2", "How it is tested", id="test"), element("p", text))
