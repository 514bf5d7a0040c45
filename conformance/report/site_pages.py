"""All files of a report, by their path below its folder. Pure: nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kernelproof.conformance.report.badges import format_badges
from kernelproof.conformance.report.behaviour_page import format_behaviour, witness_path
from kernelproof.conformance.report.matrix import Site
from kernelproof.conformance.report.page_frame import Page, format_page
from kernelproof.conformance.report.script_pages import format_about, format_changes, format_explorer
from kernelproof.conformance.report.site_data import format_data, format_script
from kernelproof.conformance.report.table_pages import (
    format_deviations,
    format_kernel,
    format_kernels,
    format_matrix,
    format_subsystem,
)

STATIC = Path(__file__).with_name("static")


def format_site(site: Site, name: str) -> Iterator[tuple[str, str]]:
    """Path and text of each file.

    Args:
        site: What is shown.
        name: Of the report, for titles.

    Raises:
        OSError: the package's own style sheet or script can't be read.
    """
    for page in _pages(site):
        yield page.path, format_page(page, name)
    yield from format_badges(site)
    yield from {witness_path(one): one.source for of in site.statements for one in of.deviations}.items()
    yield "data.json", format_data(site, name)
    yield "data.js", format_script(site)
    for path in sorted(STATIC.iterdir()):
        yield path.name, path.read_text("utf-8")


def _pages(site: Site) -> Iterator[Page]:
    yield format_matrix(site)
    yield format_explorer(site)
    yield format_changes(site)
    yield format_deviations(site)
    yield format_kernels(site)
    yield format_about(site)
    for name in site.subsystems:
        yield format_subsystem(site, name)
    for number in range(len(site.columns)):
        yield format_kernel(site, number)
    for statement in site.statements:
        yield format_behaviour(site, statement)
