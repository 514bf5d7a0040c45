"""The second run of a project finds the bytecode that the first one's guest made."""

from __future__ import annotations

import pytest

from kernelproof.vm.cache import default_cache_root

KERNEL = "6.12"
CACHE = default_cache_root()  # before a pytester gives itself a home of its own

# What is pushed bears its source's time; what this guest made bears that of now.
FILE = """
import os, pytest
from pathlib import Path
import helper

@pytest.mark.machine
@pytest.mark.parametrize("name", [__file__, helper.__file__], ids=["test", "helper"])
def test_was_pushed(name):
    source = Path(name)
    made = list((source.parent / "__pycache__").glob(source.stem + ".*.pyc"))
    assert made
    assert all(int(path.stat().st_mtime) == int(source.stat().st_mtime) for path in made)
"""


def test_bytecode_comes_back(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once for each content of a file, rewritten assertions included, and pushed from then on."""
    monkeypatch.setenv("KERNELPROOF_CACHE", str(CACHE))
    pytester.makepyfile(test_a=FILE, test_b=FILE)
    pytester.mkdir("real").joinpath("helper.py").write_text("value = 1\n")
    pytester.path.joinpath("linked").symlink_to("real")
    pytester.makeini("[pytest]\npythonpath = linked\n")

    def run(**outcomes: int) -> pytest.RunResult:
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kernel", KERNEL, "-rfE")
        result.assert_outcomes(**outcomes)
        return result

    run(failed=4)
    run(passed=4)
    pytester.makepyfile(test_b=FILE + "\n# edited\n")
    result = run(passed=3, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_b.py::test_was_pushed*test*"])
