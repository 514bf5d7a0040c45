"""`suppress` as contextlib has it, without contextlib, which a command that lives for milliseconds has no use for.

Measured: with the seven modules that it needs it is a third of all that `nsinit state` loads.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from types import TracebackType


class suppress:
    """Goes on after a block that raises one of some exceptions.

    Args:
        kinds: the exceptions.
    """

    __slots__ = ("_kinds",)

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> bool:
        return kind is not None and issubclass(kind, self._kinds)
