"""What the two plugins load into a pytest that asks for no machine; benchmarks/plugins.py says what that costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = ("kernelproof.vm.plugin", "kernelproof.conformance.plugin")
# The plugins, their packages, the hooks that they declare and the fixtures that a test may ask for: nothing else.
LOADED = {
    "kernelproof",
    "kernelproof.conformance",
    "kernelproof.conformance.plugin",
    "kernelproof.vm",
    "kernelproof.vm.adding_up",
    "kernelproof.vm.guest",
    "kernelproof.vm.guest.fixtures",
    "kernelproof.vm.guest.hookspecs",
    "kernelproof.vm.hookspecs",
    "kernelproof.vm.plugin",
}
# Of the standard library what costs as much as both together, or has no business in a run without machines.
HEAVY = {"asyncio", "ctypes", "multiprocessing", "sqlite3", "ssl", "tomllib", "urllib.request"}
RUN = """
import sys, pytest
status = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]])
print("\\nmodules", *sorted(sys.modules))
sys.exit(status)
"""


def loaded(folder: Path, plugins: tuple[str, ...]) -> set[str]:
    """Run the test with these plugins and no others: the modules that are loaded at its end."""
    unwanted = ("PYTEST", "PYTHON", "KERNELPROOF")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    words = [word for plugin in plugins for word in ("-p", plugin)]
    command = [sys.executable, "-c", RUN, *words]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return set(ended.stdout.rpartition("\nmodules ")[2].split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one trivial test."""
    folder = tmp_path_factory.mktemp("cost")
    (folder / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
    return folder


def test_plugins_load_nothing_but_themselves(folder: Path) -> None:
    """Without a machine test nothing is loaded that only machines need, of the project's or of anyone's."""
    added = loaded(folder, PLUGINS) - loaded(folder, ())
    own = {name for name in added if name.partition(".")[0] == "kernelproof"}
    assert own == LOADED
    assert {name.partition(".")[0] for name in added - own} <= sys.stdlib_module_names
    assert added & HEAVY == set()
