"""The second run of a project finds the bytecode that the first one's guest made, or the whole of its session."""

from __future__ import annotations

import re

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

    def run(*words: str, **outcomes: int) -> pytest.RunResult:
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kernel", KERNEL, "-rfE", *words)
        result.assert_outcomes(**outcomes)
        return result

    run(failed=4)
    run("-v", passed=4)  # another word for the guest, so another session
    pytester.makepyfile(test_b=FILE + "\n# edited\n")
    result = run(passed=3, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_b.py::test_was_pushed*test*"])


IMPORTED = """
import os, time
import kernelproof, pytest

WHEN = time.time()
MADE = os.urandom(8).hex()

@kernelproof.snapshot_fixture
def image():
    return 1

@pytest.mark.machine
def test_it(FIXTURE):
    print(f"made {MADE} drawn {os.urandom(8).hex()}")
    assert abs(time.time() - WHEN) < 3600  # (its clock is virtual: it leaps while the session waits for a busy host)
"""


def test_session_comes_back(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files and words find the machine that collected them; others, and a fixture of the snapshot, do not."""
    monkeypatch.setenv("KERNELPROOF_CACHE", str(CACHE))
    own, shared = (IMPORTED.replace("FIXTURE", name) for name in ("", "image"))
    pytester.makepyfile(test_own=own, test_shared=shared)
    pytester.makepyprojecttoml('[tool.kernelproof]\nguest-files = ["*.py"]\n')  # not the output of these runs

    def run(*words: str) -> tuple[str, str]:
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kernel", KERNEL, "-rP", *words)
        assert result.ret == 0
        found = re.search(r"made (\w+) drawn (\w+)", result.stdout.str())
        assert found is not None
        return found[1], found[2]

    first, second = run("test_own.py"), run("test_own.py")
    assert first[0] == second[0]
    assert first[1] != second[1]  # each clone has entropy of its own
    assert run("test_own.py", "-v")[0] != first[0]
    assert run("test_shared.py")[0] != run("test_shared.py")[0]
    pytester.makepyfile(test_own=own + "\n# edited\n")
    assert run("test_own.py")[0] != first[0]
