"""Keeps the snapshots of sessions for an hour: who runs the same tests again finds their machine as it waited for them.

An entry of the cache holds what a session changed in the memory of its base template (`pages`, `index`), its device
state (`state`), and the guest's answer (`record.json`). Its key is the digest of all that the session is made of: the
base template, the files of the project, the words to pytest. What a project does when it is imported may depend on the
time as well; a run may take an hour anyway, so an entry is used for as long and then made anew.

Not kept are sessions of machines with discs, sessions in which a fixture was set up before the snapshot (its author
counts on one set-up a run), and those whose files could not all be collected.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.machine import Machine
from kernelproof.vm.snapshot import SessionTemplate, Snapshot

KIND = "session"
SECONDS = 3600.0  # of the host's clock, from the making of an entry to its last use
MOST = 8  # entries: each is some 80 MB; those that were made first make room
_FILES = ("pages", "index", "state")


def provide_session(
    base: Snapshot,
    digest: str,
    cache: Cache,
    prepare: Callable[[Machine], Mapping[str, object]],
    shift: int,
) -> tuple[SessionTemplate, Mapping[str, object]]:
    """The template of a session and the guest's answer, from the cache or made.

    What was made is kept if it may be, when it is closed: writing it down takes 0.3 s.

    Args:
        base: What it is made from.
        digest: Of all that it is made of.
        cache: Where it is kept. One that can't be written to stays as it is.
        prepare: As for `Snapshot.derive`; returns the guest's answer.
        shift: Likewise.

    Raises:
        As `Snapshot.derive`.
    """
    if (found := find_session(base, digest, cache, shift)) is not None:
        return found
    session, answer = base.derive(prepare, shift)
    if may_keep(base, answer):
        with suppress(OSError):  # no descriptors left: it is not kept
            session.last_act = partial(_keep_at_last, base.share(), session, digest, cache, answer)
    return session, answer


def _keep_at_last(
    base: Snapshot, session: SessionTemplate, digest: str, cache: Cache, answer: Mapping[str, object]
) -> None:
    try:
        with suppress(ProvisionError, OSError):
            keep_session(base, session, digest, cache, answer)
    finally:
        base.close()


def may_keep(base: Snapshot, answer: Mapping[str, object]) -> bool:
    """Whether a session would be the same if it were made again."""
    whole = answer.get("kind") == "collected" and not answer.get("reports")
    return whole and answer.get("set_up") is False and not base.spec.discs


def find_session(
    base: Snapshot, digest: str, cache: Cache, shift: int
) -> tuple[SessionTemplate, Mapping[str, object]] | None:
    """A session that was kept, or None. One that is damaged or too old is dropped."""
    try:
        folder = cache.find(KIND, digest)
        if folder is None:
            return None
        record = json.loads((folder / "record.json").read_text("utf-8"))
        if not 0 <= time.time() - record["made_at"] <= SECONDS:
            cache.drop(KIND, digest)
            return None
        with ExitStack() as files:
            pages, index, state = (files.enter_context((folder / name).open("rb")).fileno() for name in _FILES)
            return base.restore(pages, index, state, shift), record["answer"]
    except (ProvisionError, OSError, ValueError, LookupError, TypeError):  # another run drops it at this moment
        with suppress(ProvisionError):
            cache.drop(KIND, digest)
        return None


def keep_session(
    base: Snapshot, session: SessionTemplate, digest: str, cache: Cache, answer: Mapping[str, object]
) -> None:
    """Write a session down, and drop those that are too old or too many.

    Raises:
        ProvisionError: the cache can't be written to, or is full.
        OSError: likewise.
    """
    with cache.locked(KIND, "keeping"):
        if cache.path(KIND, digest).is_dir():
            return  # another run has made the same
        with cache.building(KIND, digest) as folder:
            with ExitStack() as files:
                pages, index, state = (files.enter_context((folder / name).open("xb")).fileno() for name in _FILES)
                base.write_changes(session, pages, index, state)
            record = {"made_at": time.time(), "answer": {**answer, "compiled": 0}}  # its bytecode is known by now
            (folder / "record.json").write_text(json.dumps(record) + "\n", "utf-8")
    _drop_older(cache, digest)


def _drop_older(cache: Cache, digest: str) -> None:
    entries = []
    for folder in cache.folder(KIND).glob("[0-9a-f]" * 64):
        with suppress(OSError):  # it vanishes at this moment
            entries.append((_made_at(folder), folder.name))
    entries.sort(reverse=True)
    for number, (made_at, name) in enumerate(entries):
        if name != digest and (number >= MOST or time.time() - made_at > SECONDS):
            cache.drop(KIND, name)


def _made_at(folder: Path) -> float:
    return os.stat(folder / "record.json").st_mtime
