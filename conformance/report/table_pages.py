"""Pages that are tables: the matrix, a subsystem, a kernel, and the lists of kernels and deviations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from kernelproof.conformance.report.behaviour_page import behaviour_path, witness_path
from kernelproof.conformance.report.comparison import Kind, compare, read_answers
from kernelproof.conformance.report.markup import Child, Markup, element, join
from kernelproof.conformance.report.matrix import ALARMS, JUDGED, Column, Site, State, excerpt
from kernelproof.conformance.report.page_frame import (
    Page,
    breakable,
    cell_sign,
    crumbs,
    facts,
    format_seconds,
    format_value,
    notices,
    sign,
)
from kernelproof.conformance.report.side_by_side import format_side_by_side
from kernelproof.conformance.report.statements import KnownDeviation, Statement

_BAR = (State.PASS, State.NOT_APPLICABLE, State.DEVIATION, State.FAIL, State.BROKEN)
_KINDS = {
    Kind.REGRESSION: ("regression", "regressions"),
    Kind.OTHER: ("other value", "other values"),
    Kind.IMPROVEMENT: ("improvement", "improvements"),
}
_TOLD = (State.FAIL, State.BROKEN, State.DEVIATION, State.NOT_APPLICABLE)


def format_matrix(site: Site) -> Page:
    """Subsystem by kernel."""
    heads = [element("th", _kernel_link(column, ""), scope="col") for column in site.columns]
    corner = element("th", "Subsystem", scope="col")
    rows = [
        element(
            "tr",
            element("th", element("a", name, href=f"subsystem/{name}.html"), _small(len(statements)), scope="row"),
            *(
                _matrix_cell(site.count(statements, number), f"kernel/{column.file}.html#{name}")
                for number, column in enumerate(site.columns)
            ),
        )
        for name, statements in site.subsystems.items()
    ]
    totals = [
        _matrix_cell(site.count(site.statements, number), f"kernel/{column.file}.html")
        for number, column in enumerate(site.columns)
    ]
    last = element("tr", element("th", "all", _small(len(site.statements)), scope="row"), *totals, class_="all")
    table = element(
        "table",
        element("caption", "Documented statements by subsystem and kernel", class_="unseen"),
        element("thead", element("tr", corner, *heads)),
        element("tbody", *rows),
        element("tfoot", last),
        class_="matrix",
    )
    region = element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Matrix")
    body = join(_format_lead(site), notices(site), _format_legend(), region, _format_steps(site))
    return Page("index.html", "Matrix", body)


def _format_lead(site: Site) -> Markup:
    counts = [site.count(site.statements, number) for number in range(len(site.columns))]
    judged = sum(count[state] for count in counts for state in JUDGED)
    alarms = sum(count[state] for count in counts for state in ALARMS)
    deviating = len({one.id for one in site.statements if one.deviations})
    figures = [
        (len(site.statements), "documented statements", "explore.html"),
        (len(site.columns), "kernels" if len(site.columns) != 1 else "kernel", "kernels.html"),
        (judged, "answers by a kernel", "explore.html"),
        (deviating, "statements that kernels don't keep", "deviations.html"),
        (alarms, "failed or broken", "explore.html#outcome=fail,broken"),
    ]
    items = [
        element("li", element("a", element("b", f"{number:,}"), " ", element("span", text), href=address))
        for number, text, address in figures
    ]
    title = element("h1", "What the documents say, ", element("br"), "what the kernels do")
    return element("div", title, element("ul", *items, class_="figures"), class_="lead")


def _format_steps(site: Site) -> Markup | None:
    """What changed from each kernel to the next."""
    answers = [read_answers(column.results) for column in site.columns]
    items = []
    for number in range(1, len(site.columns)):
        names = [column.name for column in site.columns[number - 1 : number + 1]]
        kinds = Counter(change.kind for change in compare(answers[number - 1], answers[number]))
        told = [f"{kinds[kind]} {_KINDS[kind][kinds[kind] != 1]}" for kind in _KINDS if kinds[kind]]
        address = f"changes.html#from={names[0]}&to={names[1]}"
        link = element("a", f"{names[0]} → {names[1]}", href=address)
        items.append(element("li", link, element("span", ", ".join(told) or "no change")))
    if not items:
        return None
    title = element("h2", "From one kernel to the next", id="steps")
    return element("section", title, element("ol", *items, class_="steps"))


def _format_legend() -> Markup:
    return element("p", *(sign(state) for state in JUDGED), class_="legend", role="note", aria_label="Signs")


def _small(number: int) -> Markup:
    return element("small", number)


def _kernel_link(column: Column, up: str) -> Markup:
    return element("a", column.name, href=f"{up}kernel/{column.file}.html")


def _matrix_cell(counts: Counter[State], address: str) -> Markup:
    total = sum(counts[state] for state in JUDGED)
    if not total:
        return element("td", element("span", "not run", class_="none"))
    tags = [_format_tag(state, counts[state]) for state in (State.FAIL, State.BROKEN, State.DEVIATION) if counts[state]]
    unseen = counts[State.NOT_APPLICABLE]
    if unseen:  # told to who listens; the bar shows it to who looks
        tags.append(element("span", f", {unseen} {State.NOT_APPLICABLE.words}", class_="unseen"))
    passed = (
        element("b", counts[State.PASS]),
        element("small", f"/{total}"),
        element("span", " pass", class_="unseen"),
    )
    link = element(
        "a",
        element("span", *passed, class_="passed"),
        _format_bar(counts, total),
        element("span", *tags, class_="tags") if tags else None,
        href=address,
    )
    return element("td", link, class_="alarm" if any(counts[state] for state in ALARMS) else None)


def _format_tag(state: State, number: int) -> Markup:
    glyph = element("span", state.glyph, aria_hidden="true")
    return element("span", glyph, number, element("span", f" {state.words}", class_="unseen"), class_=f"tag s-{state}")


def _format_bar(counts: Counter[State], total: int) -> Markup:
    # An SVG: widths as style attributes would need a policy that allows them.
    x = 0.0
    parts = []
    for state in _BAR:
        width = 100 * counts[state] / total
        if width:
            parts.append(element("rect", x=f"{x:.2f}", width=f"{width:.2f}", height="6", class_=f"f-{state.value}"))
        x += width
    return element("svg", *parts, viewBox="0 0 100 6", preserveAspectRatio="none", class_="bar", aria_hidden="true")


def format_subsystem(site: Site, name: str) -> Page:
    """Every statement of a subsystem on every kernel, by topic."""
    topics: dict[str, list[Statement]] = {}
    for statement in site.subsystems[name]:
        topics.setdefault(statement.topic, []).append(statement)
    heads = [element("th", _kernel_link(column, "../"), scope="col", class_="k") for column in site.columns]
    bodies = [element("tbody", *_topic_rows(site, topic, of)) for topic, of in topics.items()]
    table = element(
        "table",
        element("caption", f"Statements about {name} by kernel", class_="unseen"),
        element("thead", element("tr", element("th", "Statement", scope="col"), *heads)),
        *bodies,
        class_="long",
    )
    body = join(
        crumbs(("../index.html", "Matrix"), (None, name)),
        element("h1", name),
        element("p", f"{len(site.subsystems[name])} statements in {len(topics)} topics.", class_="sub"),
        _format_legend(),
        element("div", table, class_="scroll", tabindex="0", role="region", aria_label=f"Statements about {name}"),
        format_side_by_side(site, site.subsystems[name]),
    )
    return Page(f"subsystem/{name}.html", name, body)


def _topic_rows(site: Site, topic: str, statements: Sequence[Statement]) -> Iterator[Markup]:
    head = element("th", topic, scope="rowgroup", colspan=str(len(site.columns) + 1), id=topic)
    yield element("tr", head, class_="topic")
    for statement in statements:
        link = element("a", breakable(statement.id), href=f"../{behaviour_path(statement.id)}", class_="id")
        pairs = zip(site.columns, site.cells[statement.id], strict=True)
        cells = [element("td", cell_sign(cell), class_="k", data_k=column.name) for column, cell in pairs]
        yield element(
            "tr", element("th", link, element("span", statement.statement, class_="says"), scope="row"), *cells
        )


def format_kernel(site: Site, number: int) -> Page:
    """A kernel: what it is, and every answer that is not simply a pass."""
    column = site.columns[number]
    counts = site.count(site.statements, number)
    body = join(
        crumbs(("../index.html", "Matrix"), ("../kernels.html", "Kernels"), (None, column.name)),
        element("h1", column.name),
        element(
            "p",
            *(join(sign(state), " ", element("b", counts[state]), "  ") for state in State if counts[state]),
            class_="legend",
        ),
        _describe_kernel(column),
        *(_kernel_section(site, number, name, statements) for name, statements in site.subsystems.items()),
    )
    return Page(f"kernel/{column.file}.html", f"Kernel {column.name}", body)


def _describe_kernel(column: Column) -> Markup:
    results = column.results
    kernel, guest, machine = results.kernel, results.guest, results.machine
    observers = guest.get("observers")
    tools = observers.items() if isinstance(observers, dict) else ()
    commit = f"{results.project.commit}{' and changes' if results.project.dirty else ''}"
    rows = [row.wall_seconds for row in results.rows if row.wall_seconds is not None]
    return facts(
        [
            ("Release", _text(kernel.get("release"))),
            ("Package", " ".join(filter(None, (_text(kernel.get("package")), _text(kernel.get("build")))))),
            ("Machine", ", ".join(filter(None, (
                machine.get("qemu") and f"QEMU {_text(machine['qemu'])}",
                _text(machine.get("accelerator")),
                machine.get("cpus") and f"{_text(machine['cpus'])} CPUs",
                machine.get("time") and f"{_text(machine['time'])} time",
            )))),
            ("Observers", ", ".join(f"{_text(name)} {_text(version)}" for name, version in tools)),
            ("Suite", f"kernelproof {results.project.version}, commit {commit}" if results.project.commit else None),
            ("Catalogue", results.catalogue_digest[:12]),
            ("Machines took", format_seconds(sum(rows)) if rows else None),
            ("Run", "whole" if results.is_whole else f"a part: {'; '.join(results.selection) or 'it did not end'}"),
        ]
    )  # fmt: skip


def _text(value: object) -> str:
    return "" if value is None else str(value)[:200]


def _kernel_section(site: Site, number: int, name: str, statements: Sequence[Statement]) -> Markup:
    counts = site.count(statements, number)
    told = sorted(
        (one for one in statements if site.cells[one.id][number].state in _TOLD),
        key=lambda one: _TOLD.index(site.cells[one.id][number].state),
    )
    items = [element("li", *_tell(site, number, one)) for one in told]
    passed = counts[State.PASS]
    total = sum(counts[state] for state in JUDGED)
    silent = sum(counts[state] for state in (State.NOT_RUN, State.PLANNED))
    text = f"{passed} of {total} as documented" if total else "not run"
    if silent and total:
        text += f"; {silent} without an answer"
    title = element("h2", element("a", name, href=f"../subsystem/{name}.html"), id=name)
    head = element("div", title, element("p", text, "."), class_="between")
    return element("section", head, element("ul", *items, class_="told") if items else None, class_="part")


def _tell(site: Site, number: int, statement: Statement) -> Iterator[Markup]:
    cell = site.cells[statement.id][number]
    yield sign(cell.state)
    yield element("a", breakable(statement.id), href=f"../{behaviour_path(statement.id)}", class_="id")
    yield element("span", statement.statement, class_="says")
    reason = next((row.reason for row in cell.rows if row.outcome.value == cell.state and row.reason), None)
    if reason:
        first = excerpt(reason).strip().splitlines()
        yield element("span", (first[0] if first else "")[:300], class_="reason")


def format_kernels(site: Site) -> Page:
    """The kernels of the report."""
    cards = []
    for number, column in enumerate(site.columns):
        counts = site.count(site.statements, number)
        total = sum(counts[state] for state in JUDGED)
        title = element("h2", _kernel_link(column, ""))
        bar = _format_bar(counts, total) if total else None
        signs = element(
            "p",
            *(join(sign(state), " ", element("b", counts[state]), "  ") for state in JUDGED if counts[state]),
            class_="legend",
        )
        badge = element("img", src=f"badge/{column.file}.svg", alt=f"Badge of {column.name}", height="20")
        cards.append(element("section", title, bar, signs, _describe_kernel(column), element("p", badge)))
    body = join(element("h1", "Kernels"), notices(site), element("div", *cards, class_="cards"))
    return Page("kernels.html", "Kernels", body)


def format_deviations(site: Site) -> Page:
    """Every deviation that is listed."""
    listed = [(one, deviation) for one in site.statements for deviation in one.deviations]
    sections = []
    for name, statements in site.subsystems.items():
        cards = [_deviation_card(one, deviation) for one in statements for deviation in one.deviations]
        if cards:
            sections.append(element("section", element("h2", name, id=name), *cards))
    text = (
        f"{len(listed)} times a kernel is known to do otherwise than its document says. Each has an exact value and a "
        "witness: a program of at most 40 lines that anyone can run."
    )
    body = join(element("h1", "Deviations"), element("p", text, class_="sub"), *sections)
    return Page("deviations.html", "Deviations", body)


def _deviation_card(statement: Statement, one: KnownDeviation) -> Markup:
    link = element("a", breakable(statement.id), href=behaviour_path(statement.id), class_="id")
    about: list[tuple[str, Child]] = [
        ("Document", statement.source),
        ("Seen instead", element("code", format_value(one.seen), class_="value")),
        ("Kernels", one.kernels),
        ("Since", one.since),
        ("In the kernel", ", ".join(one.places)),
        ("Why", one.reason),
        ("Witness", element("a", one.witness.rpartition("/")[2], href=witness_path(one), download=True)),
    ]
    quote = element("blockquote", element("p", statement.statement), class_="statement")
    return element("article", element("h3", link), quote, facts(about), class_="card")
