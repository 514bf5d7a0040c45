"""Reads TAP and KTAP as it comes: what shell and C tests print. Pure, and bounded, as a guest writes it.

A result counts once: subtests in place of their parent, which has a result of its own only where it failed and none of
them did. What does not hold together (a plan that was not kept, numbers out of order) is a result with the directive
ERROR, so that nothing that should have run is lost without a word. Text comes out safe to show.

Formats: the kernel's Documentation/dev-tools/ktap.rst, version 1 (with the time stamps of a kernel log, too), and the
Test Anything Protocol, versions 12 to 14. Not for YAML blocks: they are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from kernelproof.vm.console import escape_text

DIRECTIVES = ("SKIP", "TODO", "XFAIL", "TIMEOUT", "ERROR")

MAX_LINE = 16 * 1024  # bytes; the rest of a longer one is dropped
MAX_RESULTS = 100_000
MAX_DEPTH = 32
MAX_NAME = 500  # characters
MAX_TEXT = 4000  # characters of diagnostics that are kept with a result

_LOG_PREFIX = re.compile(r"^(<\d+>)?\[ *\d+\.\d+\](\[ *[TC]\d+\])? ?")
_VERSION = re.compile(r"^(K?TAP) version (\d{1,3})$")
_PLAN = re.compile(r"^1\.\.(\d{1,9})(?:\s*#\s*(.*))?$")
_RESULT = re.compile(r"^(not )?ok(?=\s|$)(?:\s+(\d{1,9})(?=\s|$))?\s*(?:-\s+)?(.*)$")
_DIRECTIVE = re.compile(r"^(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\w*:?(?=\s|$)\s*(.*)$", re.IGNORECASE)
_HASH = re.compile(r"(?<!\\)#")
_BAIL = re.compile(r"^Bail out!\s*(.*)$", re.IGNORECASE)
_SUBTEST = re.compile(r"^#\s*Subtest:\s*(.*)$")


class Result(NamedTuple):
    """One test.

    Args:
        path: The names of its parents, and its own.
        ok: Whether the line said so.
        directive: One of `DIRECTIVES`, or "".
        reason: What stood behind the directive.
        diagnostics: The `#` lines before it.
    """

    path: tuple[str, ...]
    ok: bool
    directive: str = ""
    reason: str = ""
    diagnostics: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is a failure: not ok, and nothing excuses it."""
        return not self.ok and self.directive not in ("SKIP", "TODO", "XFAIL")


class _Level:
    """The results at one indentation."""

    def __init__(self, indent: int, name: str = "") -> None:
        self.indent = indent
        self.name = name  # of the test that these are subtests of, where it was announced
        self.planned: int | None = None
        self.count = 0
        self.misnumbered = False
        self.results: list[Result] = []  # paths below this level


class TapReader:
    """Takes output piece by piece.

    Attributes:
        version: "TAP" or "KTAP" as the first version line said, "" before one came.
        announced: Whether a version line came, or a plan before anything else but comments.
    """

    def __init__(self) -> None:
        self.version = ""
        self.announced = False
        self._line = bytearray()
        self._levels: list[_Level] = []
        self._subtest: tuple[int, str] | None = None
        self._diagnostics: list[str] = []
        self._yaml: int | None = None
        self._bailed: str | None = None
        self._seen = False
        self._total = 0

    def feed(self, data: bytes) -> None:
        """Take in the next bytes."""
        for piece in data.splitlines(keepends=True):
            self._line += piece[: MAX_LINE - len(self._line)]
            if piece.endswith((b"\n", b"\r")):
                self._take_line(bytes(self._line))
                self._line.clear()

    def finish(self) -> tuple[Result, ...]:
        """All results, after the last byte."""
        if self._line:
            self._take_line(bytes(self._line))
            self._line.clear()
        while len(self._levels) > 1:
            self._close_unfinished()
        results = [result for level in self._levels for result in (*level.results, *self._judge(level))]
        if self._bailed is not None:
            results.append(_error("bail out", self._bailed or "no reason given"))
        elif not results and self.version:
            results.append(_error("plan", "neither a plan nor a result came"))
        if self._total > MAX_RESULTS:
            results.append(_error("results", f"more than {MAX_RESULTS}; the rest is not kept"))
        return tuple(results)

    # --- lines

    def _take_line(self, raw: bytes) -> None:
        if self._bailed is not None:
            return
        text = _LOG_PREFIX.sub("", raw.decode("utf-8", "backslashreplace").rstrip("\r\n"))
        body = text.lstrip(" ")
        indent = len(text) - len(body)
        body = body.rstrip()
        if not body or self._passes_yaml(body, indent):
            return
        if found := _BAIL.match(body):
            self._bailed = _clean(found[1], MAX_TEXT)
        elif body.startswith("#"):
            self._take_comment(body, indent)
        elif found := _VERSION.match(body):
            self._take_version(found[1], indent)
        elif found := _PLAN.match(body):
            self._take_plan(int(found[1]), found[2] or "", indent)
        elif found := _RESULT.match(body):
            self._take_result(found, indent)
        else:
            self._seen = True

    def _passes_yaml(self, body: str, indent: int) -> bool:
        if self._yaml is not None:
            if body == "..." and indent == self._yaml:
                self._yaml = None
                return True
            if indent >= self._yaml:
                return True
            self._yaml = None
        if body == "---" and indent and self._levels and self._levels[-1].count:
            self._yaml = indent
            return True
        return False

    def _take_comment(self, body: str, indent: int) -> None:
        if found := _SUBTEST.match(body):
            self._subtest = (indent, _clean(found[1], MAX_NAME))
        else:
            self._diagnostics = [*self._diagnostics[-19:], _clean(body.lstrip("# "), MAX_TEXT)]

    def _take_version(self, version: str, indent: int) -> None:
        self.announced = self._seen = True
        self.version = self.version or version
        level = self._find(indent)
        if level is None:
            self._open(indent)
        elif level.count or level.planned is not None:  # another program's output behind that of the first
            for child in self._close_above(level):
                self._add(level, child)
            level.results += self._judge(level)
            level.planned, level.count, level.misnumbered = None, 0, False

    def _take_plan(self, number: int, comment: str, indent: int) -> None:
        self.announced = self.announced or not self._seen
        self._seen = True
        level = self._find(indent) or self._open(indent)
        if level is None:
            return
        if level.planned is not None:
            level.results.append(_error("plan", f"a second plan: 1..{number} after 1..{level.planned}"))
        level.planned = number
        if number == 0:
            found = _DIRECTIVE.match(comment)
            reason = _clean(found[2] if found else comment, MAX_TEXT)
            self._add(level, Result(("all",), True, "SKIP", reason or "nothing to do"))

    def _take_result(self, found: re.Match[str], indent: int) -> None:
        self._seen = True
        level = self._find(indent)
        if level is None:
            if self._levels:
                return  # indented, and nobody announced subtests: some program's words
            level = self._open(indent)
        assert level is not None
        children = self._close_above(level)
        level.count += 1
        number = int(found[2]) if found[2] else level.count
        level.misnumbered = level.misnumbered or number != level.count
        self._record(level, children, found[1] is None, found[3], number)

    def _record(self, level: _Level, children: list[Result], ok: bool, text: str, number: int) -> None:
        description, directive, reason = _split(text)
        name = description or f"test {number}"
        result = Result((name,), ok, directive, reason, "\n".join(self._diagnostics)[-MAX_TEXT:])
        self._diagnostics = []
        for child in children:
            self._add(level, child._replace(path=(name, *child.path)))
        if not children:
            self._add(level, result)
        elif result.failed and not any(child.failed for child in children):
            said = result.reason or result.diagnostics
            self._add(level, result._replace(reason=said or "not ok, though no subtest failed"))

    def _add(self, level: _Level, result: Result) -> None:
        if len(result.path) == 1:
            self._total += 1
        if self._total <= MAX_RESULTS:
            level.results.append(result)

    # --- levels

    def _find(self, indent: int) -> _Level | None:
        return next((level for level in self._levels if level.indent == indent), None)

    def _open(self, indent: int) -> _Level | None:
        if self._levels and (indent < self._levels[-1].indent or len(self._levels) >= MAX_DEPTH):
            return None
        announced = self._subtest
        name = announced[1] if announced is not None and announced[0] in (indent, indent - 4) else ""
        self._subtest = None
        self._levels.append(_Level(indent, name))
        return self._levels[-1]

    def _close_above(self, level: _Level) -> list[Result]:
        while self._levels[-1] is not level and self._levels[-2] is not level:
            self._close_unfinished()
        if self._levels[-1] is level:
            return []
        inner = self._levels.pop()
        return [*inner.results, *self._judge(inner)]

    def _close_unfinished(self) -> None:
        """The innermost level ends without the result of the test that it belongs to."""
        inner = self._levels.pop()
        name = inner.name or "(unfinished)"
        outer = self._levels[-1]
        for result in (*inner.results, *self._judge(inner)):
            self._add(outer, result._replace(path=(name, *result.path)))

    def _judge(self, level: _Level) -> Iterable[Result]:
        if level.misnumbered:
            yield _error("numbers", "results are not numbered one after another")
        if level.planned is None:
            if self.version != "KTAP" and level.count:  # there it may be left out
                yield _error("plan", f"none came, after {level.count} results")
        elif level.planned != level.count:
            yield _error("plan", f"{level.planned} planned, {level.count} came")


def _split(text: str) -> tuple[str, str, str]:
    """Description, directive and reason."""
    if (hash_sign := _HASH.search(text)) is None:
        return _clean(text, MAX_NAME), "", ""
    description = _clean(text[: hash_sign.start()].replace("\\#", "#"), MAX_NAME)
    rest = text[hash_sign.end() :].strip()
    if (found := _DIRECTIVE.match(rest)) is not None:
        return description, found[1].upper(), _clean(found[2], MAX_TEXT)
    return description, "", _clean(rest, MAX_TEXT)


def _error(name: str, reason: str) -> Result:
    return Result((name,), False, "ERROR", reason)


def _clean(text: str, limit: int) -> str:
    return escape_text(text.strip())[:limit]
