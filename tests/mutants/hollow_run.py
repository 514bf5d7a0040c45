"""Every test of a behaviour, with the functions of `impl` that it calls doing nothing: each must fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from answers import Answers, digest_of
from machines import ROOT, RunFailed, collect, run
from mutant_plugin import HOLLOW, HOLLOW_FIXTURES

_LOST_FOR_WANT = ("TypeError", "AttributeError")  # a test that could not go on with None


class Verdict(NamedTuple):
    """What an item's answer means.

    Args:
        fails: Whether the test fails as it should; None if it was not tried.
        how: In a word: "observed" or "no value" (it could not go on with None); "by fixtures", whose calls were emptied
            too, as it passes otherwise; "passes", "calls nothing"; "no claim" to
            be about impl; "not tried".
    """

    fails: bool | None
    how: str


def judge(answer: dict[str, Any]) -> Verdict:
    """Judge one item's answer."""
    outcome, called = answer["outcome"], answer.get("guest", {}).get("called", [])
    if answer.get("guest", {}).get("subject", "impl") != "impl":
        return Verdict(None, "no claim")
    if outcome == "passed" and answer.get("fixtures") in ("failed", "setup failed"):
        return Verdict(True, "by fixtures")
    if outcome == "passed":
        return Verdict(False, "passes" if called else "calls nothing")
    if outcome == "failed":
        return Verdict(True, "no value" if answer["said"].startswith(_LOST_FOR_WANT) else "observed")
    if outcome == "teardown failed":
        return Verdict(True, "observed")
    if answer.get("lost") == "hang":
        return Verdict(True, "observed")  # it waits for what does not come
    return Verdict(None, "not tried")


def is_tried(answer: dict[str, Any]) -> bool:
    """Whether its test came to its own calls: machines that tests share may be in no state for the next one."""
    return judge(answer).how != "not tried" or answer["outcome"] == "setup skipped"


def run_hollow(
    paths: Sequence[str], kernel: str, options: Sequence[str], store: Answers, tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Try what is not known yet; returns the answers of all items below the paths.

    Raises:
        RunFailed: pytest itself does not work.
    """
    nodeids = collect(paths, kernel)
    digests = {path: digest_of(_files_beside(ROOT / path)) for path in {each.partition("::")[0] for each in nodeids}}
    known = store.read()

    def is_known(nodeid: str) -> bool:
        answer = known.get(nodeid)
        return answer is not None and answer["digest"] == digests[nodeid.partition("::")[0]] and is_tried(answer)

    wanted = [nodeid for nodeid in nodeids if not is_known(nodeid)]
    tell(f"{len(nodeids)} tests, {len(wanted)} of them not tried since they changed")
    for done, answer in enumerate(_run_all(_by_folder(wanted), HOLLOW, kernel, options, tell), 1):
        known[answer["nodeid"]] = answer | {"digest": digests[answer["nodeid"].partition("::")[0]]}
        store.add(known[answer["nodeid"]])
        tell(f"{done} of {len(wanted)}  {judge(answer).how:13}  {answer['nodeid']}")
    still = [nodeid for nodeid in nodeids if nodeid in known and _is_unsettled(known[nodeid])]
    for answer in _run_all([still] if still else [], HOLLOW_FIXTURES, kernel, options, tell):
        called = answer.get("guest", {}).get("called", [])
        known[answer["nodeid"]] |= {"fixtures": answer["outcome"], "fixtures_called": called}
        store.add(known[answer["nodeid"]])
        tell(f"fixtures too  {judge(known[answer['nodeid']]).how:13}  {answer['nodeid']}")
    return {nodeid: known[nodeid] for nodeid in nodeids if nodeid in known}


def _run_all(
    groups: Iterable[Sequence[str]], task: str, kernel: str, options: Sequence[str], tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """All groups, also behind one that pytest can't run; that is told then, and raised in the end."""
    failure: RunFailed | None = None
    for group in groups:
        try:
            yield from run(dict.fromkeys(group, task), kernel, options)
        except RunFailed as error:
            tell(str(error))
            failure = failure or error
    if failure is not None:
        raise failure


def _is_unsettled(answer: dict[str, Any]) -> bool:
    return judge(answer).fails is False and "fixtures" not in answer


def _files_beside(path: Path) -> list[Path]:
    # A test and what its folder shares; other tests do not matter to it.
    return [path, *(each for each in path.parent.glob("*.py") if not each.name.startswith("test_"))]


def _by_folder(nodeids: Iterable[str]) -> list[list[str]]:
    # A session of a few hundred tests each: one that collects all of them takes a machine half a minute.
    groups: dict[str, list[str]] = {}
    for nodeid in nodeids:
        groups.setdefault(nodeid.partition("::")[0].rpartition("/")[0], []).append(nodeid)
    return list(groups.values())
