"""Contexts and caches without contextlib and functools do what those do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernelproof.impl._syscalls import unwinding

BOTH = pytest.mark.parametrize("kind", [unwinding, contextlib], ids=["ours", "theirs"])


@BOTH
def test_a_stack_undoes_all_in_reverse(kind: Any) -> None:
    """What was entered last is left first, all of it also if one fails, and the last error is raised."""
    done: list[object] = []

    def fail() -> None:
        done.append("fails")
        raise LookupError

    with pytest.raises(LookupError) as caught, kind.ExitStack() as stack:  # noqa: PT012 - all of it is the block
        stack.callback(done.append, "first")
        stack.callback(fail)
        assert stack.enter_context(kind.nullcontext(7)) == 7
        stack.callback(done.append, "last")
        int("x")
    assert done == ["last", "fails", "first"]
    assert isinstance(caught.value.__context__, ValueError)


@BOTH
def test_a_stack_can_give_away_what_it_has(kind: Any) -> None:
    """After `pop_all` nothing is undone at the end of the block, but by the other stack."""
    done: list[str] = []
    with kind.ExitStack() as stack:
        stack.callback(done.append, "x")
        other = stack.pop_all()
    assert done == []
    other.close()
    assert done == ["x"]


@BOTH
def test_an_exit_may_swallow_an_error(kind: Any) -> None:
    """The exits after it see none, and nothing is raised."""
    seen: list[object] = []

    class Seeing:
        def __enter__(self) -> None:
            return None

        def __exit__(self, *values: object) -> None:
            seen.append(values[0])

    swallowing: contextlib.AbstractContextManager[Any, bool] = kind.ExitStack()
    with swallowing as stack:
        stack.enter_context(Seeing())
        stack.enter_context(contextlib.suppress(ValueError))
        stack.enter_context(Seeing())
        raise ValueError
    assert seen == [ValueError, None]


@BOTH
def test_a_generator_is_a_context(kind: Any) -> None:
    """It is gone on with at the end; it may swallow an error, raise another, or let it through."""
    done: list[str] = []

    def marks(swallowed: type[BaseException]) -> Iterator[str]:
        """Marks."""
        try:
            yield "given"
        except swallowed:
            done.append("swallowed")
        finally:
            done.append("end")

    marked: Callable[..., contextlib.AbstractContextManager[str, bool]] = kind.contextmanager(marks)
    with marked(LookupError) as given:
        assert given == "given"
    with marked(LookupError):
        raise KeyError
    error = OverflowError()
    with pytest.raises(OverflowError) as caught, marked(LookupError):
        raise error
    assert caught.value is error
    with pytest.raises(StopIteration), marked(LookupError):
        raise StopIteration
    assert done == ["end", "swallowed", "end", "end", "end"]
    assert marked.__doc__ == "Marks."


@BOTH
def test_what_is_closed_is_closed_whatever_happens(kind: Any, tmp_path: Any) -> None:
    """`closing` calls close."""
    with pytest.raises(OverflowError), kind.closing((tmp_path / "x").open("w")) as file:
        raise OverflowError
    assert file.closed


def test_results_are_kept() -> None:
    """A function with a cache is called once for each of its last arguments."""
    calls: list[int] = []

    @unwinding.lru_cache(maxsize=1)
    def last(number: int) -> int:
        calls.append(number)
        return number

    @unwinding.cache
    def all_of_them() -> int:
        calls.append(0)
        return 0

    assert [last(1), last(1), last(2), last(1), all_of_them(), all_of_them()] == [1, 1, 2, 1, 0, 0]
    assert calls == [1, 2, 1, 0]
