"""The table of edits, and how an edit comes into a process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from applying import MARK, NotLoaded, break_function, compile_function
from edits import Edit, edits_of, read_edits
from loading import VARIABLE
from sampling import sample

ROOT = Path(__file__).resolve().parent.parent.parent


def news(body: str) -> set[tuple[str, str]]:
    """What each edit of a function's body replaces, and with what."""
    text = "def f(a, b, c):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    edits = edits_of("impl/x.py", text)
    for edit in edits:
        ast.parse(edit.apply(text))
    return {(edit.old, edit.new) for edit in edits}


@pytest.mark.parametrize(
    ("body", "old", "new"),
    [
        ("x = a == b", "==", "!="),
        ("x = (a) < (b)", "<", "<="),
        ("x = a not in b", "not in", "in"),
        ("x = a + b", "+", "-"),
        ("x = a & b", "&", "|"),
        ("x = a and b", "and", "or"),
        ("x = not a", "not a", "(a)"),
        ("if a: b()", "a", "(not (a))"),
        ("x = 12", "12", "(12 + 1)"),
        ("x = True", "True", "False"),
        ("x = a['key']", "'key'", '""'),
        ("a(b)", "a(b)", "pass"),
        ("x += 1", "x += 1", "pass"),
        ("raise ValueError('x')", "raise ValueError('x')", "pass"),
        ("return a", "return a", "return None"),
        ("while a: break", "break", "continue"),
        ("x = 'é' + b", "+", "-"),
    ],
)
def test_table(body: str, old: str, new: str) -> None:
    """Each kind of edit is found, and leaves Python that can be parsed."""
    assert (old, new) in news(body)


@pytest.mark.parametrize(
    "body",
    [
        "'''A docstring with 1 + 1.'''",
        "x: int",
        "a.add_note('word')",
        "x = f'{a!r} + 1'",
        "return None",
        "x = 'a word'",
    ],
)
def test_what_nobody_promises_is_left_alone(body: str) -> None:
    """Words for people are not edited."""
    assert news(body) == set()


def test_names_outlive_lines_above() -> None:
    """An edit's name says file, function and text, and no line; equal ones are numbered."""
    text = "class C:\n    def f(self, a):\n        return [a + 1, a + 1]\n"
    names = [edit.name for edit in edits_of("impl/x.py", text)]
    assert names == [edit.name for edit in edits_of("impl/x.py", "import os\n\n" + text)]
    assert "impl/x.py::C.f: '+' -> '-' #2" in names
    assert len(set(names)) == len(names)


def test_changed_file_is_refused() -> None:
    """An edit does not go into a text that it was not made for."""
    edit = Edit("impl/x.py", "f", 1, 0, "old", "new", 1)
    with pytest.raises(ValueError, match="changed"):
        edit.apply("other")


def test_sample_is_the_same_for_a_seed() -> None:
    """The choice depends on the seed alone, and takes more of what is larger."""
    edits = {
        name: [Edit(name, f"f{n}", n, n, "a", "b", 1) for n in range(size)] for name, size in (("s", 100), ("l", 900))
    }
    chosen = sample(edits, 200, 7)
    assert chosen == sample(edits, 200, 7)
    assert chosen != sample(edits, 200, 8)
    assert {name: len(each) for name, each in chosen.items()} == {"s": 20, "l": 180}
    assert set(chosen["l"]) - set(sample(edits | {"l": edits["l"][1:]}, 200, 7)["l"]) <= {edits["l"][0]}


SOURCE = '''
import functools


def plain(a):
    """With a docstring."""
    return a + 1


class Child(str):
    @functools.lru_cache
    def twice(self):
        def inner():
            return super(Child, self).__len__() * 2
        return inner()

    def leave(self):
        super().__init__()
'''


@pytest.fixture
def module(tmp_path: Path) -> Iterator[types.ModuleType]:
    """A module that was loaded from a file below tmp_path/impl."""
    (tmp_path / "impl").mkdir()
    path = tmp_path / "impl" / "broken_here.py"
    path.write_text(SOURCE)
    made = types.ModuleType("broken_here")
    made.__file__ = str(path)
    exec(compile(SOURCE, str(path), "exec"), vars(made))
    sys.modules["broken_here"] = made
    yield made
    del sys.modules["broken_here"]


def edit_of(function: str, new: str) -> dict[str, object]:
    """The task for the first edit of the function that puts `new`."""
    edits = edits_of("impl/broken_here.py", SOURCE)
    return next(edit for edit in edits if (edit.function, edit.new) == (function, new))._asdict()


def test_edit_reaches_those_who_imported_the_function(module: types.ModuleType, tmp_path: Path) -> None:
    """The function object stays; what it does changes, and the mark tells that it ran."""
    imported = module.plain
    break_function(tmp_path, edit_of("plain", "-"))
    assert MARK[0] == 0
    assert imported(5) == 4
    assert MARK[0] == 1


def test_edit_inside_a_nested_function(module: types.ModuleType, tmp_path: Path) -> None:
    """What is inside an outer function, behind a decorator, is broken with it."""
    break_function(tmp_path, edit_of("Child.twice", "//"))
    assert module.Child("four").twice() == 2


def test_closure_that_is_no_longer_used(module: types.ModuleType, tmp_path: Path) -> None:
    """A method whose only super() is edited away still fits its function."""
    break_function(tmp_path, edit_of("Child.leave", "pass"))
    assert module.Child("x").leave() is None


def test_function_that_nobody_loaded(tmp_path: Path) -> None:
    """An edit of a module that is not loaded is told apart from one that survives."""
    (tmp_path / "impl").mkdir()
    (tmp_path / "impl" / "broken_here.py").write_text(SOURCE)
    with pytest.raises(NotLoaded):
        break_function(tmp_path, edit_of("plain", "-"))


def test_no_such_function_in_the_text(module: types.ModuleType) -> None:
    """A text that lacks the function is an error, and not a survivor."""
    with pytest.raises(LookupError, match="plain"):
        compile_function("x = 1", module.plain.__code__)


def test_python_that_a_test_starts_is_broken_too() -> None:
    """A new interpreter that has the edit in its environment loads the broken file, and leaves no bytecode of it."""
    here, edit = Path(__file__).parent, read_edits(ROOT, "impl/user")
    chosen = next(each for each in edit if (each.function, each.new) == ("is_valid_name", "return None"))
    command = "from kernelproof.impl.user import is_valid_name as f; print(f('ada', 'strict'))"
    environment = {"PYTHONPATH": str(here), "PYTHONDONTWRITEBYTECODE": "1"}
    answers = []
    for more in ({}, {VARIABLE: json.dumps(chosen._asdict())}):
        done = subprocess.run(
            [sys.executable, "-c", command], env=environment | more, capture_output=True, text=True, check=True
        )
        answers.append(done.stdout)
    assert answers == ["True\n", "None\n"]
