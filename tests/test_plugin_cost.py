"""What the two plugins cost a pytest that asks for no machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

LIMIT_SECONDS = 0.020
RUNS = 7
PLUGINS = ("kernelproof.vm.plugin", "kernelproof.conformance.plugin")
# Each costs more than the whole allowance, or has no business in a run without machines.
HEAVY = {"asyncio", "ctypes", "jsonschema", "msgspec", "multiprocessing", "pyroute2", "rich", "ssl", "urllib"}
RUN = """
import sys, pytest
status = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]])
print("\\nmodules", *sorted(sys.modules))
sys.exit(status)
"""


class Run(NamedTuple):
    """One run of one trivial test."""

    cpu_seconds: float
    modules: frozenset[str]


def run(folder: Path, plugins: tuple[str, ...]) -> Run:
    """Run the test with these plugins and no others; CPU time as wait4 counts it, bytecode kept in `folder`."""
    unwanted = ("PYTEST", "PYTHON", "KERNELPROOF")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    words = [word for plugin in plugins for word in ("-p", plugin)]
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen([sys.executable, "-c", RUN, *words], cwd=folder, env=environment, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    assert process.returncode == 0, text
    return Run(usage.ru_utime + usage.ru_stime, frozenset(text.rpartition("\nmodules ")[2].split()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one trivial test."""
    folder = tmp_path_factory.mktemp("cost")
    (folder / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
    return folder


def test_plugins_load_nothing_heavy(folder: Path) -> None:
    """Without a machine test, nothing is loaded that only machines need."""
    added = run(folder, PLUGINS).modules - run(folder, ()).modules
    assert set(PLUGINS) <= added
    assert {name.split(".")[0] for name in added} & HEAVY == set()


def test_plugins_cost_little(folder: Path) -> None:
    """Both plugins together cost at most 20 ms of CPU: the least of several runs with, less that without."""
    run(folder, PLUGINS)  # writes bytecode
    pairs = [(run(folder, PLUGINS), run(folder, ())) for _ in range(RUNS)]
    cost = min(with_them.cpu_seconds for with_them, _ in pairs) - min(without.cpu_seconds for _, without in pairs)
    added = pairs[0][0].modules - pairs[0][1].modules
    assert cost <= LIMIT_SECONDS, f"{cost:.3f} s; loaded {sorted(added)}"
