"""The written list of deviations, made of the catalogue.

python -m kernelproof.cli.deviations_page > docs/deviations.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kernelproof.cli.report_input import make_statements, read_suite
from kernelproof.conformance.report.page_frame import format_value
from kernelproof.conformance.report.statements import KnownDeviation, Statement
from kernelproof.vm.kernel_select import read_rows

HEAD = """\
# Deviations

Made by `python -m kernelproof.cli.deviations_page` from the catalogue; a test holds it to that.

Each of these is a sentence of a document that kernels (or, where it says so, the programs around them) do not keep. The
value is exact: the suite fails when a kernel gives another one, the documented one included. The witness is one file of
at most 40 lines that needs nothing but Python; it prints the value and runs on any of the kernels, also without this
project.

*Since* is the release that the reason names; else what the kernels that were tried tell: the last that kept the
sentence, and the first that does not.
"""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


def escape(text: str) -> str:
    """A text in a cell of a table. Pure."""
    return _SPECIAL.sub(r"\\\1", text).replace("\n", " ")


def code(text: str) -> str:
    """A text as code in a cell of a table. Pure."""
    quotes = "``" if "`" in text else "`"
    return f"{quotes}{text.replace('|', chr(92) + '|')}{quotes}"


def format_page(statements: Iterable[Statement]) -> str:
    """The page. Pure."""
    subsystems: dict[str, list[str]] = {}
    number = 0
    for statement in sorted(statements, key=lambda one: (one.subsystem, one.id)):
        for deviation in statement.deviations:
            number += 1
            subsystems.setdefault(statement.subsystem, []).extend(_format_one(statement, deviation))
    links = ", ".join(f"[{name}](#{name})" for name in subsystems)
    parts = ["\n".join([f"## {name}", "", *lines]) for name, lines in subsystems.items()]
    return "\n".join([HEAD, f"{number} in {len(subsystems)} subsystems: {links}.", "", *parts]).rstrip() + "\n"


def _format_one(statement: Statement, one: KnownDeviation) -> Iterator[str]:
    name = one.witness.rpartition("/")[2]
    of = "" if statement.of == "kernel" else f" (of {statement.of})"
    pairs = [
        ("document", escape(statement.source) + of),
        ("kernels", f"{', '.join(one.on)} ({code(one.kernels)})"),
        ("seen instead", code(format_value(one.seen))),
        ("since", escape(one.since)),
        ("in the kernel", escape(", ".join(one.places)) or "not looked up"),
        ("why", escape(one.reason)),
        ("witness", f"[{name}](../{one.witness}): {code(one.command)}"),
    ]
    yield f"### {statement.id}"
    yield ""
    yield f"> {escape(statement.statement)}"
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for title, text in pairs:
        yield f"| {title} | {text} |"
    yield ""


def make_page(folder: Path) -> str:
    """The page for a catalogue's folder; errors as of `read_suite`."""
    suite = read_suite([folder])
    return format_page(make_statements(suite, [row.series for row in read_rows().rows]))


if __name__ == "__main__":
    print(make_page(Path("conformance/behaviours")), end="")
