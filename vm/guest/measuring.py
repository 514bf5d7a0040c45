"""Measures which lines of the project run in a machine, for the coverage of the run that the host measures.

It begins before pytest does, so that a clone knows what ran when its template collected. The guest needs coverage.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

_REMEDY = 'add it to guest-requirements in [tool.kernelproof] of pyproject.toml: guest-requirements = ["coverage"]'


class Measuring:
    """A measurement that lasts as long as the session.

    Args:
        settings: `branch`, `source`, `include` and `omit`, as the host's measurement has them; `root`: nothing outside
            of it is told.

    Raises:
        LookupError: there is no coverage.py here.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            coverage = import_module("coverage")
        except ModuleNotFoundError as error:
            raise LookupError(f"the host measures coverage, and the guest has no coverage.py; {_REMEDY}") from error
        wanted = {name: settings[name] for name in ("branch", "source", "include", "omit")}
        self._root = f"{settings['root']}/"
        self._coverage = coverage.Coverage(data_file=None, config_file=False, messages=False, **wanted)
        self._coverage.start()

    def read(self) -> dict[str, list[Any]]:
        """What ran so far: by file, lines or, where branches are measured, pairs of lines."""
        data = self._coverage.get_data()
        read = data.arcs if data.has_arcs() else data.lines
        files = [path for path in data.measured_files() if path.startswith(self._root)]
        return {path: [list(each) if isinstance(each, tuple) else each for each in read(path) or ()] for path in files}
