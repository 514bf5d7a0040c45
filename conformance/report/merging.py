"""Results of several runs in one file: one kernel once, one schema, one catalogue; anything else is refused by name.

The merged file is `{"schema": 1, "merged": [...]}` with results files as they are, in the order of their kernels.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kernelproof.conformance.report.reading import ResultsError, parse_results, read_document
from kernelproof.conformance.report.records import SCHEMA, Results


class Run(NamedTuple):
    """Results and the file that they came from."""

    path: Path
    results: Results


def read_runs(path: Path) -> list[Run]:
    """The runs in a results file or in a merged one.

    Raises:
        ResultsError: it holds no results, or others than this version reads.
        OSError: it can't be read.
    """
    document = read_document(path)
    if "merged" not in document:
        return [Run(path, parse_results(document, path))]
    parts = document["merged"]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ResultsError(f"{path}: not a merged file")
    for part in parts:
        if part.get("schema") != SCHEMA:
            raise ResultsError(f"{path}: holds schema {part.get('schema')!r}, this version reads {SCHEMA}")
    return [Run(path, parse_results(part, path)) for part in parts]


def find_clashes(runs: Sequence[Run], *, any_catalogue: bool = False) -> list[str]:
    """Why these can't be one file: every reason, as a sentence. Pure.

    Args:
        runs: What is to be merged.
        any_catalogue: Whether results of different catalogues may be.
    """
    clashes = []
    first: dict[str, Run] = {}
    for run in runs:
        name = run.results.kernel["name"]
        if name in first:
            clashes.append(f"kernel {name} is in {first[name].path} and in {run.path}")
        first.setdefault(name, run)
    digests: dict[str, Run] = {}
    for run in runs:
        digests.setdefault(run.results.catalogue_digest, run)
    if len(digests) > 1 and not any_catalogue:
        named = ", ".join(f"{run.path} ({digest[:12]})" for digest, run in digests.items())
        clashes.append(f"they are of different catalogues: {named}")
    return clashes


def merge(runs: Sequence[Run]) -> dict[str, Any]:
    """The merged document. Pure."""
    ordered = sorted(runs, key=lambda run: _order(run.results.kernel["name"]))
    return {"schema": SCHEMA, "merged": [run.results.as_json() for run in ordered]}


def _order(name: str) -> tuple[list[int], str]:
    return [int(part) for part in name.split(".") if part.isdecimal()], name


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: EACCES, ENOSPC …; what was there before is untouched.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
