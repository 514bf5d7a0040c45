"""Runs tests in machines with something done to each, and yields what came of it as it comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mutant_plugin import ANSWERS, TASKS

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
_QUIET = ("-q", "--tb=line", "-p", "no:cacheprovider", "-o", "console_output_style=classic")


class RunFailed(RuntimeError):
    """pytest itself did not do its work; says what it printed."""


def collect(paths: Sequence[str], kernel: str) -> list[str]:
    """The node ids of all machine tests below these paths.

    Raises:
        RunFailed: they can't be collected.
    """
    command = _command(kernel, ("--collect-only", "-n", "0", "-m", "machine or behaviour", *paths))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RunFailed(f"pytest collects nothing from {' '.join(paths)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return [line for line in done.stdout.splitlines() if "::" in line and " " not in line.partition("::")[0]]


def run(tasks: Mapping[str, object], kernel: str, options: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Run items, each with its task.

    Args:
        tasks: By node id: what the plugin's guest side is to do.
        kernel: As `--kernel` takes it.
        options: More of pytest's.

    Yields:
        {"nodeid", "outcome", "said", "guest"} of each item, as it ends.

    Raises:
        RunFailed: pytest could not run them.
    """
    files = sorted({nodeid.partition("::")[0] for nodeid in tasks})
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        task_file, log = Path(folder, "tasks.json"), Path(folder, "pytest.log")
        task_file.write_text(json.dumps(tasks), "utf-8")
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(reader, encoding="utf-8") as answers, log.open("w") as output:
            os.set_inheritable(writer, True)
            process = subprocess.Popen(
                _command(kernel, ("-p", "mutant_plugin", "--results-dir", folder, *options, *files)),
                cwd=ROOT,
                env=_environment() | {TASKS: str(task_file), ANSWERS: f"/dev/fd/{writer}"},
                pass_fds=[writer],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            os.close(writer)
            try:
                for line in answers:
                    yield json.loads(line)
            finally:
                process.wait()  # after Ctrl-C, which it got too, it ends its machines
        if process.returncode not in (0, 1):
            raise RunFailed(f"pytest ended with exit status {process.returncode}:\n{log.read_text()[-3000:]}")


def _command(kernel: str, more: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *_QUIET, "--kernel", kernel, *more]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return kept | {"PYTHONPATH": str(HERE)}
