"""The module os of a short command: what is built in, and the rest of it when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kernelproof.impl.libcontainer.nsinit.scripts import packed

FRONT = f"""
import sys
sys.path.insert(0, {str(packed.__file__).rpartition("/")[0]!r})
from packed import put_os
put_os()
import os, posix
"""


def told(program: str, **env: str) -> list[str]:
    """What a program prints in an interpreter that has such a module, started as the command starts it; its lines."""
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", FRONT + program]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def test_what_is_built_in_loads_nothing() -> None:
    """Calls, names of files and a variable of the environment are there; paths load their own module alone."""
    program = """
os.close(os.open("/", os.O_RDONLY))
print(os.fsencode("\\udcff"), ascii(os.fsdecode(b"\\xff")), os.fsencode(b"a"), os.fsdecode("b"))
print(os.getenv("ONE"), os.getenv("TWO"), os.getenv("TWO", "2"), os._exit is posix._exit)
print(sorted({"posixpath", "_collections_abc"} & set(sys.modules)))
print(os.path.join("a", "b"), os.path is sys.modules["posixpath"], "_collections_abc" in sys.modules)
"""
    assert told(program, ONE="1") == [
        "b'\\xff' '\\udcff' b'a' b",
        "1 None 2 True",
        "[]",
        "a/b True False",
    ]


@pytest.mark.parametrize(
    "asks",
    ["os.environ", "from os import walk", "from os import *", "os.PathLike", "import os.path as p; p.join; os.sep"],
)
def test_anything_else_makes_it_whole(asks: str) -> None:
    """os itself is run in the same module: all names are there, and a function that was kept sees the real values."""
    program = f"""
kept = os.getenv
{asks}
os.environ["TWO"] = "2"
print(kept("TWO"), os.getenv("TWO"), kept is os.getenv, "__getattr__" in vars(os), os.path.__name__)
names = set(vars(os))
whole = sys.modules.pop("os")
del sys.modules["os.path"]
import os
print(os is whole, sorted(set(vars(os)) ^ names), os.path is whole.path)
"""
    assert told(program, ONE="1") == ["2 2 False False posixpath", "False [] True"]


def test_what_os_lacks_is_an_error() -> None:
    """No name is made up, and it is no package."""
    program = """
for name in ("__path__", "nothing_of_this_name"):
    try:
        getattr(os, name)
    except AttributeError as error:
        print(error)
from os.path import join
print(join("a", "b"))
"""
    assert told(program) == [
        "module 'os' has no attribute '__path__'",
        "module 'os' has no attribute 'nothing_of_this_name'",
        "a/b",
    ]


def test_threads_that_ask_at_once_get_one() -> None:
    """The environment is made once, however many look for it."""
    program = """
import _thread, time
sys.setswitchinterval(1e-6)
begin, done, found = _thread.allocate_lock(), [], []
begin.acquire()
def ask():
    with begin:
        pass
    found.append(os.environ)
    done.append(1)
for _ in range(8):
    _thread.start_new_thread(ask, ())
begin.release()
while len(done) < 8:
    posix.sched_yield()
print(len(set(map(id, found))), os.environ is found[0])
"""
    assert told(program) == ["1 True"]


def test_an_interpreter_that_has_it_loaded_keeps_it() -> None:
    """Nothing is put in the place of a module that is there."""
    assert told("import posixpath, os; before = os; os.sep; put_os(); print(sys.modules['os'] is before)") == ["True"]
