"""What a call carries has no docstrings; all else of it is as it was."""

from __future__ import annotations

import marshal
import subprocess
import sys
import traceback

import pytest

from kernelproof.impl.libcontainer.nsinit.scripts.lean import strip_docstrings

SOURCE = '''
"""Of the module."""
TEXT = "Of the module, too."

class Kind:
    """Of the class."""
    def tell(self):
        """Of the method."""
        assert self
        def inner():
            "Of the inner one."
            raise ValueError("of the inner one")
        return inner
    also = lambda self: "a text"

def same():
    """twice"""
    return "twice"

def none(): return "first"
def texts(): return [f"{one} and" for one in ("a", "b")]
async def wait():
    """Of the coroutine."""
def yields():
    """Of the generator."""
    yield "one"
'''


def load() -> dict[str, object]:
    """What the source defines, without docstrings."""
    code = compile(SOURCE, "file.py", "exec")
    values: dict[str, object] = {"__name__": "of"}
    exec(marshal.loads(strip_docstrings(marshal.dumps(code))), values)
    return values


def test_all_docstrings_are_gone() -> None:
    """Of the module, of classes, and of functions of all kinds."""
    values = load()
    found = [values["__doc__"]] + [getattr(values[name], "__doc__", "") for name in ("Kind", "wait", "yields", "none")]
    assert found == [None] * 5
    kind = values["Kind"]
    assert kind.tell.__doc__ is None  # type: ignore[attr-defined]
    assert kind().tell().__doc__ is None  # type: ignore[operator]
    assert "Of the" not in str(
        marshal.loads(strip_docstrings(marshal.dumps(compile("def f():\n 'Of the'", "", "exec")))).co_consts
    )


def test_all_else_is_as_it_was() -> None:
    """Texts that are no docstring stay, also one that has the same words; so do assertions and lines."""
    values = load()
    assert values["TEXT"] == "Of the module, too."
    assert values["same"]() == "twice"  # type: ignore[operator]
    assert values["none"]() == "first"  # type: ignore[operator]
    assert values["texts"]() == ["a and", "b and"]  # type: ignore[operator]
    kind = values["Kind"]
    assert kind().also() == "a text"  # type: ignore[operator]
    with pytest.raises(ValueError, match="of the inner one") as caught:
        kind().tell()()  # type: ignore[operator]
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == 12
    with pytest.raises(AssertionError):
        kind.tell(0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["argparse", "typing", "dataclasses", "enum"])
def test_modules_of_python_work_without(module: str) -> None:
    """Real code of every shape is compiled by this interpreter, stripped, and does its work."""
    question = (
        "import importlib.util, marshal, sys\n"
        f"from kernelproof.impl.libcontainer.nsinit.scripts.lean import strip_docstrings\n"
        f"spec = importlib.util.find_spec({module!r})\n"
        "code = marshal.loads(strip_docstrings(marshal.dumps(spec.loader.get_code(spec.name))))\n"
        f"sys.modules.pop({module!r}, None)\n"
        "made = importlib.util.module_from_spec(spec)\n"
        f"sys.modules[{module!r}] = made\n"
        "exec(code, made.__dict__)\n"
        "own = [one for one in vars(made).values() if type(one).__name__ == 'function']\n"
        "print(made.__doc__, [one for one in own if one.__module__ == made.__name__ and one.__doc__])\n"
    )
    done = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True)
    assert done.stdout == "None []\n"
