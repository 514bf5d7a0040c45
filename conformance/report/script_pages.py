"""Pages that a script fills: the explorer and `what changed`; each says what to do without one."""

from __future__ import annotations

from collections.abc import Sequence

from kernelproof.conformance.report.markup import Markup, element, join
from kernelproof.conformance.report.matrix import Site, State
from kernelproof.conformance.report.page_frame import Page, notices, sign

_FILTERED = (State.PASS, State.DEVIATION, State.FAIL, State.BROKEN, State.NOT_APPLICABLE, State.NOT_RUN, State.PLANNED)


def format_explorer(site: Site) -> Page:
    """Search and filters over all statements."""
    kernels = [column.name for column in site.columns]
    heads = [element("th", name, scope="col", class_="k") for name in kernels]
    table = element(
        "table",
        element("caption", "Statements that match", class_="unseen"),
        element("thead", element("tr", element("th", "Statement", scope="col"), *heads)),
        element("tbody", id="found"),
        class_="long",
    )
    without = [
        element("li", element("a", name, href=f"subsystem/{name}.html"), f" ({len(of)})")
        for name, of in site.subsystems.items()
    ]
    noscript = element(
        "noscript",
        element("p", "Search and filters need JavaScript. Every statement stands on the page of its subsystem:"),
        element("ul", *without),
    )
    region = element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Found", id="list")
    more = element("p", element("button", "Show all", type="button", id="more", hidden=True), class_="more")
    body = join(element("h1", "Behaviours"), _format_filters(site, kernels), noscript, region, more)
    return Page("explore.html", "Behaviours", body, script=True)


def _format_filters(site: Site, kernels: Sequence[str]) -> Markup:
    outcomes = [
        element(
            "label",
            element("input", type="checkbox", name="outcome", value=state.value),
            sign(state),
            class_="chip",
        )
        for state in _FILTERED
    ]
    search = element(
        "label",
        element("span", "Search", class_="label"),
        element(
            "input",
            type="search",
            name="q",
            placeholder="id, statement or document",
            autocomplete="off",
            spellcheck="false",
            aria_keyshortcuts="/",
        ),
        class_="search",
    )
    return element(
        "form",
        search,
        element(
            "div",
            _select("subsystem", "Subsystem", [("", "all"), *((name, name) for name in site.subsystems)]),
            _select("kernel", "Kernel", [("", "any"), *((name, name) for name in kernels)]),
            _select("from", "Changed from", [("", "none"), *((name, name) for name in kernels)]),
            _select("to", "to", [("", "none"), *((name, name) for name in kernels)]),
            _select("order", "Order", [("", "most telling first"), ("id", "by name")]),
            class_="selects",
        ),
        element("fieldset", element("legend", "Outcome"), *outcomes, class_="chips"),
        element(
            "div", element("p", id="count", role="status"), element("button", "Clear", type="reset"), class_="countline"
        ),
        class_="filters",
        role="search",
        id="filters",
    )


def _select(name: str, text: str, options: list[tuple[str, str]]) -> Markup:
    made = [element("option", shown, value=value) for value, shown in options]
    return element("label", element("span", text, class_="label"), element("select", *made, name=name))


def format_changes(site: Site) -> Page:
    """What changed between two kernels of the reader's choice."""
    kernels = [(column.name, column.name) for column in site.columns]
    form = element(
        "form",
        element(
            "div",
            _select("from", "From", kernels),
            _select("to", "To", kernels),
            element("button", "Swap", type="button", id="swap"),
            class_="selects",
        ),
        class_="filters",
        id="pair",
    )
    noscript = element(
        "noscript",
        element(
            "p",
            "Choosing two kernels needs JavaScript. At a prompt: ",
            element("code", "kernelproof diff OLD.json NEW.json"),
        ),
    )
    body = join(
        element("h1", "What changed"),
        form,
        noscript,
        notices(site),
        element("p", id="count", role="status"),
        element("div", id="changes"),
    )
    return Page("changes.html", "What changed", body, script=True)


def format_about(site: Site) -> Page:
    """What the words mean."""
    meanings = [
        (State.PASS, "The kernel did what the document says."),
        (State.DEVIATION, "It did otherwise, exactly as is on record; a witness without this project's code agrees."),
        (
            State.FAIL,
            "It did otherwise, and nobody has looked into it: a regression, a mistake in the test or in the document.",
        ),
        (State.BROKEN, "The test came to no answer: the machine was lost, or something it needs was not there."),
        (State.NOT_APPLICABLE, "This kernel has not got what the statement speaks of; the page says what."),
        (State.NOT_RUN, "There is a test, but these results have no answer of it."),
        (State.PLANNED, "The statement is in the catalogue and has no test yet."),
        (State.OUTSIDE, "The statement is not meant for this kernel: an empty cell."),
    ]
    rows = [element("div", element("dt", sign(state)), element("dd", text)) for state, text in meanings]
    paragraphs = (
        "Each row is a sentence of a document that others can read: a manual page, the kernel's own documentation, a "
        "standard. Each answer comes from a fresh virtual machine with that kernel, whose log and taint flags were "
        "looked at afterwards.",
        "A statement's outcome on a kernel is the worst of its items. What other programs do is shown beside it and "
        "counts for nothing.",
        "Each statement has an address of its own that stays: behaviour/ID.html. So have the filters: what you chose "
        "is in the address. Press / to search.",
    )
    badges = [
        element(
            "li",
            element("img", src=f"badge/{name}.svg", alt=f"Badge: {name}", height="20"),
            " ",
            element("code", f"badge/{name}.svg"),
        )
        for name in ("all", *(column.file for column in site.columns))
    ]
    body = join(
        element("h1", "About this report"),
        *(element("p", text) for text in paragraphs),
        element("h2", "What the words mean"),
        element("dl", *rows, class_="facts wide"),
        element("h2", "Badges"),
        element("ul", *badges, class_="badges"),
        element("h2", "Data"),
        element("p", element("a", "data.json", href="data.json"), " holds all of this; ",
                element("a", "data.schema.json", href="data.schema.json"), " says what each member means."),
    )  # fmt: skip
    return Page("about.html", "About", body)
