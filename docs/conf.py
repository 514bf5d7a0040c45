"""The documentation site: Sphinx with Furo, pages in Markdown, a reference made of docstrings. Built by `nox -s docs`.

MkDocs Material was tried too; it reaches the end of its life in 2027.

Pages are read on their own as well, as files of a repository. So their links are relative and lead to files, those to
README.md and its neighbours too, and the table of contents stands here instead of in a page.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pygments.lexers.configs import IniLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kernelproof import __version__  # noqa: E402  (the checkout's, which is not installed where this is built)
from kernelproof.cli.commands import COMMANDS, build_command  # noqa: E402

PACKAGES = ("netlink", "mount", "cgroups", "user", "term", "listenbuffer", "graphdb", "libcontainer")
RULES = sorted(path.stem for path in (ROOT / "docs/rules").glob("[a-z]*.md"))
CONTENTS: dict[str, tuple[str, ...]] = {
    "Tutorial": ("tutorial/first-behaviour",),
    "How to": (
        *(
            "machines",
            "at-a-prompt",
            "how-to/own-suite",
            "example/README",
            "how-to/check-a-kernel",
            "own-kernel",
            "report",
            "ci",
            "provisioning",
        ),
    ),
    "Reference": (
        *("running", "deviations", "reference/catalogue", "reference/command", "reference/vm", "reference/conformance"),
        *(f"reference/{name}" for name in PACKAGES),
        *("rules/README", *(f"rules/{name}" for name in RULES)),
    ),
    "Explanation": ("how-a-clone-works", "threat-model"),
    "Project": ("project/readme", "project/contributing", "project/changelog"),
}

project = "kernelproof"
release = __version__
html_title = f"kernelproof {release}"
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
highlight_language = "none"  # commands, and tables of module docstrings
smartquotes_action = "D"  # dashes; "" is an empty text
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["example/*/**", "requirements.*"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nitpicky = False  # records of other libraries are named in signatures, and there is no network to look them up

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Source"]
# `type` is a name of several records' fields, and of Python's own class in signatures: a guess would be a wrong link.
suppress_warnings = ["ref.python"]

_OUTSIDE = re.compile(r"\]\((?:\.\./)*(README|CONTRIBUTING|CHANGELOG)\.md")
_DOCS = re.compile(r"\]\(docs/")
_ALIAS = re.compile(r"Alias for field number \d+")
_CODE = re.compile(r"(`+)(.+?)\1")
_SPECIAL = re.compile(r"(?<=\w)_(?!\w)|[*|]")


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the table of contents behind the first page, and let files beside docs/ be pages that links lead to."""
    folder, _, word = name.rpartition("/")
    if folder == "project":
        source[0] = _DOCS.sub("](../", (ROOT / f"{word.upper()}.md").read_text("utf-8"))
    if name == "reference/command":
        source[0] += format_commands()
    source[0] = _OUTSIDE.sub(lambda found: f"](/project/{found[1].lower()}.md", source[0])
    if name == root_doc:
        for caption, pages in CONTENTS.items():
            lines = "\n".join(pages)
            source[0] += f"\n```{{toctree}}\n:caption: {caption}\n:hidden:\n\n{lines}\n```\n"


def format_commands() -> str:
    """The help of every sub-command, as Markdown."""
    os.environ["COLUMNS"] = "100"  # what argparse takes for the width
    return "".join(f"\n## kernelproof {name}\n\n```text\n{build_command(name).format_help()}```\n" for name in COMMANDS)


def to_restructured(app: Sphinx, what: str, name: str, it: object, options: Any, lines: list[str]) -> None:
    """Docstrings have Markdown's single backticks for code, and say IFF_* without meaning a link or emphasis."""
    lines[:] = [*_mark_blocks(lines)] if what == "module" else [_convert(line) for line in lines]


def _mark_blocks(lines: Sequence[str]) -> Iterator[str]:
    # What is indented in a module's docstring is a table or code, to be shown as it is.
    inside = False
    for line in lines:
        if line and not line.startswith(" "):
            inside = False
            yield _convert(line)
        elif line and not inside:
            inside = True
            yield from ("::", "", line)
        else:
            yield line


def _convert(line: str) -> str:
    parts = []
    end = 0
    for found in _CODE.finditer(line):
        parts += [_SPECIAL.sub(r"\\\g<0>", line[end : found.start()]), f"``{found[2].strip()}``"]
        end = found.end()
    return "".join([*parts, _SPECIAL.sub(r"\\\g<0>", line[end:])])


def skip_fields(app: Sphinx, what: str, name: str, it: object, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples stand in their class's `Args`."""
    return True if _ALIAS.fullmatch(getattr(it, "__doc__", None) or "") else None


def setup(app: Sphinx) -> None:
    """Connect the above; docstrings are converted before napoleon reads their sections."""
    app.add_lexer("config", IniLexer)  # a kernel's configuration
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", to_restructured, priority=400)
    app.connect("autodoc-skip-member", skip_fields)
