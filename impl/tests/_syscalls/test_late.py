"""A module that stands where an import would put it, and is loaded when it is asked for something."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kernelproof.impl._syscalls.late import Late, load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a module that is not loaded."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lately").mkdir()
    (tmp_path / "lately/__init__.py").touch()
    (tmp_path / "lately/inner.py").write_text("WORD = 'one'\n")
    for name in ("lately", "lately.inner"):
        monkeypatch.setitem(sys.modules, name, None)  # so that what is loaded is taken away again
        del sys.modules[name]


def test_it_is_loaded_when_it_is_asked() -> None:
    """Nothing is loaded before; then it is the module of that name, whose names can change."""
    inner: object = Late("lately.inner")
    assert repr(inner) == "<lately.inner, when it is needed>"
    assert "lately" not in sys.modules
    assert getattr(inner, "WORD") == "one"  # noqa: B009 - nothing tells the type checker of it
    sys.modules["lately.inner"].__dict__["WORD"] = "two"
    assert getattr(inner, "WORD") == "two"  # noqa: B009 - as above


def test_it_can_be_loaded_beforehand() -> None:
    """Where there is time; a module that was imported as ever is loaded already."""
    load(Late("lately.inner"))
    assert "lately.inner" in sys.modules
    load(sys)


def test_what_it_lacks_is_an_error() -> None:
    """A name that the module does not have, and a module that is not there."""
    with pytest.raises(AttributeError, match=r"lately\.inner.*nothing"):
        getattr(Late("lately.inner"), "nothing")  # noqa: B009 - the look-up is the test
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        load(Late("lately.nowhere"))
