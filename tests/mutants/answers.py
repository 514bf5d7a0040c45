"""What is known already: one JSON object a line, appended as it comes, so that a run that was broken off goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Answers:
    """A file of answers; of two with the same key the later one holds.

    Args:
        path: The file; made with its folder at the first answer.
        key: The name of the field that tells answers apart.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key

    def read(self) -> dict[str, dict[str, Any]]:
        """All answers by their keys; a last line that was cut is left out."""
        known: dict[str, dict[str, Any]] = {}
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return known
        for line in text.splitlines():
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            known[answer[self._key]] = answer
        return known

    def add(self, answer: Mapping[str, Any]) -> None:
        """Append one, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(answer) + "\n")


def digest_of(paths: Iterable[Path]) -> str:
    """One text for the contents of files; another one if any of them changes."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
