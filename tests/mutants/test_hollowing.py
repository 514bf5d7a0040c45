"""Functions that do nothing when a test calls them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from functions_of import functions_of
from hollowing import Hollow

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = """
import contextlib, functools

def act(log, word="default", *, times=1):
    log.append(word * times)
    return log

def outer(log):
    act(log, "inner")
    return "outer"

@contextlib.contextmanager
def mounted(log):
    log.append("mount")
    yield "place"
    log.append("unmount")

def lines():
    yield from ("a", "b")

async def answer():
    return 42

async def answers():
    yield 1

@functools.lru_cache
def cached():
    return "cached"

class Thing:
    def __init__(self):
        self.name = "thing"
    def __enter__(self):
        raise AssertionError("entered")
    def __exit__(self, *error):
        pass
    @property
    def size(self):
        return 3
    @classmethod
    def make(cls):
        return cls()
    def hello(self):
        return "hello " + super().__str__()
"""


@pytest.fixture
def impl() -> Iterator[types.ModuleType]:
    """A module that counts as one of `impl`."""
    name = "kernelproof.impl.pretended"
    module = types.ModuleType(name)
    exec(compile(SOURCE, "pretended.py", "exec"), vars(module))
    sys.modules[name] = module
    yield module
    del sys.modules[name]


@pytest.fixture
def hollow(impl: types.ModuleType) -> Iterator[Hollow]:
    """Its functions emptied, when told so."""
    made = Hollow(str(ROOT))
    for function in functions_of(impl):
        made._exchange(function)
    yield made
    made.active = False


def test_nothing_changes_before_it_is_active(impl: types.ModuleType, hollow: Hollow) -> None:
    """Emptied functions do all their work, defaults and closures included, until they are told not to."""
    log: list[str] = []
    assert impl.act(log, times=2) == ["defaultdefault"]
    with impl.mounted(log) as place:
        assert place == "place"
    assert log == ["defaultdefault", "mount", "unmount"]
    assert list(impl.lines()) == ["a", "b"]
    assert impl.Thing().hello().startswith("hello <")
    assert impl.Thing.make().size == 3
    assert impl.cached() == "cached"
    assert hollow.called == {}


def test_what_a_test_calls_does_nothing(impl: types.ModuleType, hollow: Hollow) -> None:
    """A function gives None, its generator nothing, a method of an object that was made before gives None."""
    thing, log = impl.Thing(), list[str]()
    hollow.active = True
    assert impl.act(log) is None
    assert list(impl.lines()) == []
    assert thing.hello() is None
    assert thing.size is None
    assert impl.Thing.make() is None
    assert impl.cached() is None
    assert log == []
    assert hollow.called["pretended:Thing.hello"] == 1


def test_the_inside_of_a_with_still_runs(impl: types.ModuleType, hollow: Hollow) -> None:
    """An emptied context manager neither enters nor leaves anything, and lets the test go on inside."""
    thing, log = impl.Thing(), list[str]()
    hollow.active = True
    with impl.mounted(log) as place, thing as entered:
        assert (place, entered) == (None, thing)
        log.append("inside")
    assert log == ["inside"]


def test_coroutines_are_awaited_for_nothing(impl: types.ModuleType, hollow: Hollow) -> None:
    """An emptied coroutine gives None, an emptied asynchronous generator nothing."""

    async def ask() -> tuple[object, list[object]]:
        values: AsyncIterator[object] = impl.answers()
        return await impl.answer(), [value async for value in values]

    hollow.active = True
    assert asyncio.run(ask()) == (None, [])


def test_impl_may_call_itself(impl: types.ModuleType, hollow: Hollow) -> None:
    """What `impl` calls works: it is the test's own calls that are emptied."""
    log: list[str] = []
    hollow.active = True
    exec("act(log, 'from impl')", vars(impl) | {"log": log})  # a frame of the module's
    assert log == ["from impl"]
    assert impl.outer(log) is None


def test_what_comes_with_the_first_call_is_there_before() -> None:
    """Modules that a package loads only when they are needed are loaded, so that they can be emptied."""
    command = (
        "import sys; sys.path.append(sys.argv[1]); import kernelproof.impl.mount; from hollowing import load_all;"
        "before = 'kernelproof.impl.mount.context' in sys.modules; load_all();"
        "print(before, 'kernelproof.impl.mount.context' in sys.modules, 'kernelproof.impl.term' in sys.modules)"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", command, here], capture_output=True, text=True, check=True)
    assert done.stdout == "False True False\n"


def test_children_see_the_same(impl: types.ModuleType, hollow: Hollow) -> None:
    """A forked child has the emptied functions too."""
    hollow.active = True
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os._exit(0 if impl.outer([]) is None else 1)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
