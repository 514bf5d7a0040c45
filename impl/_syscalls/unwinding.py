"""`ExitStack`, `contextmanager`, `closing`, `nullcontext` as contextlib has them, `cache`, `lru_cache` as functools.

Those two need ten modules more, which take longer to load than all that a command of milliseconds does with them:

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        from contextlib import ExitStack
    else:
        from kernelproof.impl._syscalls.unwinding import ExitStack

Not here: decorators of what `contextmanager` gives, exits that are given without their block, statistics of caches.

Source: Python documentation, contextlib and functools.
"""

from __future__ import annotations

from _functools import _lru_cache_wrapper, partial  # type: ignore[import-not-found]

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Any, Self

_NAMES = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__")


class ExitStack:
    """What is to be undone at the end of a block, the last first."""

    __slots__ = ("_exits",)

    def __init__(self) -> None:
        self._exits: list[Callable[..., object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> bool:
        begun_with = value
        while self._exits:
            leave = self._exits.pop()
            try:
                if leave(None if value is None else type(value), value, None if value is None else value.__traceback__):
                    value = None
            except BaseException as error:  # noqa: BLE001 - the next is undone all the same, then it is raised
                value = error
        if value is not None and value is not begun_with:
            raise value
        return begun_with is not None and value is None

    def enter_context(self, manager: Any) -> Any:
        """Enters a manager, which is left at the end; what it gives."""
        given = manager.__enter__()
        self._exits.append(manager.__exit__)
        return given

    def callback(self, function: Callable[..., object], *values: object, **keywords: object) -> None:
        """Calls a function at the end, whether something was raised or not."""

        def leave(*_: object) -> None:
            function(*values, **keywords)

        self._exits.append(leave)

    def pop_all(self) -> ExitStack:
        """A stack of its own with all that is to be undone; here nothing is left."""
        other = type(self)()
        other._exits, self._exits = self._exits, []
        return other

    def close(self) -> None:
        """Undoes all now."""
        self.__exit__(None, None, None)


class _Generated:
    __slots__ = ("_generator",)

    def __init__(self, generator: Generator[Any, None, None]) -> None:
        self._generator = generator

    def __enter__(self) -> Any:
        return next(self._generator)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> bool:
        try:
            if value is None:
                next(self._generator)
            else:
                self._generator.throw(value)
        except StopIteration as error:
            return value is not None and error is not value
        except BaseException as error:
            if error is value or (
                isinstance(value, StopIteration) and isinstance(error, RuntimeError) and error.__cause__ is value
            ):
                if value is not None:
                    value.__traceback__ = at
                return False
            raise
        raise RuntimeError("the generator of a context goes on after its block")


def contextmanager(function: Callable[..., Generator[Any, None, None]]) -> Callable[..., _Generated]:
    """Makes a context of a generator with one `yield`."""

    def make(*values: Any, **keywords: Any) -> _Generated:
        return _Generated(function(*values, **keywords))

    for name in _NAMES:
        setattr(make, name, getattr(function, name))
    make.__wrapped__ = function  # type: ignore[attr-defined]
    return make


class closing:
    """Closes something at the end of a block."""

    __slots__ = ("_thing",)

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __enter__(self) -> Any:
        return self._thing

    def __exit__(self, *_: object) -> None:
        self._thing.close()


class nullcontext:
    """Does nothing at either end of a block."""

    __slots__ = ("_given",)

    def __init__(self, given: Any = None) -> None:
        self._given = given

    def __enter__(self) -> Any:
        return self._given

    def __exit__(self, *_: object) -> None:
        return None


def lru_cache(maxsize: int | None) -> Callable[[Callable[..., Any]], Any]:
    """Keeps the results of the last calls of a function."""

    def keep(function: Callable[..., Any]) -> Any:
        kept = _lru_cache_wrapper(function, maxsize, False, _statistics)
        for name in _NAMES:
            setattr(kept, name, getattr(function, name))
        kept.__wrapped__ = function
        return kept

    return keep


def _statistics(*numbers: int) -> tuple[int, ...]:
    return numbers


def cache(function: Callable[..., Any]) -> Any:
    """Keeps all results of a function."""
    return lru_cache(None)(function)


__all__ = ["ExitStack", "cache", "closing", "contextmanager", "lru_cache", "nullcontext", "partial"]
