"""Reads results files back, and refuses what is none: by hand, so that a command needs no validator at run time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernelproof.conformance.report.outcomes import Outcome
from kernelproof.conformance.report.records import SCHEMA, Project, Results, Row

_LIMIT = 256 * 1024 * 1024  # bytes: no run writes as much


class ResultsError(ValueError):
    """A file holds no results, or others than this version reads; says which file and why."""


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file, of this version's schema.

    Raises:
        ResultsError: no JSON object, or of another schema.
        OSError: it can't be read.
    """
    if path.stat().st_size > _LIMIT:
        raise ResultsError(f"{path}: more than {_LIMIT} bytes")
    try:
        document = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: no JSON: {error}") from error
    if not isinstance(document, dict) or "schema" not in document:
        raise ResultsError(f"{path}: not a results file: it names no schema")
    if document["schema"] != SCHEMA:
        raise ResultsError(f"{path}: schema {document['schema']!r}, this version reads {SCHEMA}")
    return document


def parse_results(document: Mapping[str, Any], path: Path) -> Results:
    """The results in a document of this version's schema.

    Raises:
        ResultsError: a member is missing, unknown or of another type.
    """
    try:
        rows = tuple(_parse_row(row) for row in _checked(document["results"], list))
        results = Results(
            project=_parse_project(document["project"]),
            catalogue_digest=_checked(document["catalogue"]["digest"], str),
            kernel=_checked(document["kernel"], dict),
            guest=_checked(document["guest"], dict),
            machine=_checked(document["machine"], dict),
            selection=tuple(_checked(text, str) for text in _checked(document["selection"], list)),
            complete=_checked(document["complete"], bool),
            rows=rows,
        )
        _checked(results.kernel["name"], str)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{path}: not a results file: {type(error).__name__}: {error}") from error
    return results


def read_results(path: Path) -> Results:
    """The results in a file; errors as for `read_document` and `parse_results`."""
    return parse_results(read_document(path), path)


def _parse_row(data: Any) -> Row:
    row = Row(**_checked(data, dict))
    for text in (row.behaviour, row.node, row.profile, row.subject):
        _checked(text, str)
    for optional in (row.clone, row.reason, row.log):
        if optional is not None:
            _checked(optional, str)
    for number in (row.wall_seconds, row.guest_seconds):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise TypeError(f"{number!r:.40} is no number of seconds")
    return row._replace(outcome=Outcome(row.outcome))


def _parse_project(data: Any) -> Project:
    project = Project(**_checked(data, dict))
    for text in (project.version, project.commit):
        if text is not None:
            _checked(text, str)
    if project.dirty is not None:
        _checked(project.dirty, bool)
    return project


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value
