"""The report as data: `data.json` for programs (its schema is `data.schema.json`), `data.js` for the pages' script."""

from __future__ import annotations

import json
from typing import Any

from kernelproof.conformance.report.matrix import Cell, Column, Site, State, excerpt
from kernelproof.conformance.report.page_frame import format_value
from kernelproof.conformance.report.records import Row
from kernelproof.conformance.report.statements import KnownDeviation, Statement

DATA_SCHEMA = 1  # rises with every change that an older reader would misunderstand


def format_data(site: Site, name: str) -> str:
    """`data.json`: all that the pages show; one statement a line."""
    head = {
        "schema": DATA_SCHEMA,
        "name": name,
        "catalogue": {"digest": site.catalogue_digest},
        "kernels": [_kernel(column) for column in site.columns],
        "left_out": [one._asdict() for one in site.left_out],
    }
    lines = ",\n".join(json.dumps(_statement(site, statement)) for statement in site.statements)
    return f'{json.dumps(head)[:-1]}, "behaviours": [\n{lines}\n]}}\n'


def format_script(site: Site) -> str:
    """`data.js`: what search and filters need, and no more; a file that is opened from a disc can't fetch JSON."""
    subsystems = list(site.subsystems)
    rows: list[list[Any]] = []
    for statement in site.statements:
        cells = site.cells[statement.id]
        row: list[Any] = [
            statement.id,
            statement.statement,
            statement.source,
            subsystems.index(statement.subsystem),
            "".join([cell.state.letter for cell in cells]),
        ]
        values = {
            number: format_value(cell.seen)[:120]
            for number, cell in enumerate(cells)
            if cell.state is State.DEVIATION and cell.seen is not None
        }
        rows.append([*row, values] if values else row)
    data = {
        "kernels": [column.name for column in site.columns],
        "subsystems": subsystems,
        "states": [[state.letter, state.value, state.words, state.glyph] for state in State],
        "rows": rows,
    }
    # As a string that JSON.parse reads: browsers take it in twice as fast as an object in a script.
    text = json.dumps(data, separators=(",", ":"))
    return f"window.kernelproofData = JSON.parse({json.dumps(text)});\n"


def _kernel(column: Column) -> dict[str, Any]:
    results = column.results
    return {
        "name": column.name,
        "page": f"kernel/{column.file}.html",
        "kernel": results.kernel,
        "guest": results.guest,
        "machine": results.machine,
        "project": results.project._asdict(),
        "catalogue": {"digest": results.catalogue_digest},
        "selection": list(results.selection),
        "whole": results.is_whole,
    }


def _statement(site: Site, statement: Statement) -> dict[str, Any]:
    cells = zip(site.columns, site.cells[statement.id], strict=True)
    return {
        "id": statement.id,
        "subsystem": statement.subsystem,
        "statement": statement.statement,
        "source": statement.source,
        "of": statement.of,
        "kernels": statement.kernels,
        "needs": list(statement.needs),
        "since": statement.since,
        "note": statement.note,
        "suspected": statement.suspected,
        "deviations": [_deviation(one) for one in statement.deviations],
        "tests": [{"path": test.path, "line": test.line, "function": test.function} for test in statement.tests],
        "outcomes": {column.name: _cell(cell) for column, cell in cells},
    }


def _deviation(one: KnownDeviation) -> dict[str, Any]:
    return {
        **{"kernels": one.kernels, "on": list(one.on), "seen": one.seen, "since": one.since},
        **{"reason": one.reason, "places": list(one.places), "witness": one.witness},
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "state": cell.state.value,
        "seconds": cell.seconds,
        "items": [_item(row) for row in (*cell.rows, *cell.peers)],
    }


def _item(row: Row) -> dict[str, Any]:
    return {
        "node": row.node,
        "subject": row.subject,
        "profile": row.profile,
        "outcome": row.outcome.value,
        "seconds": row.wall_seconds,
        "guest_seconds": row.guest_seconds,
        "reason": None if row.reason is None else excerpt(row.reason),
        "seen": row.seen,
        "log": None if row.log is None else excerpt(row.log),
    }
