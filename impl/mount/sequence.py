"""What a mount table is as a sequence: the methods of collections.abc.Sequence, by the tuple that it holds.

It is registered there and not derived from it: to load abstract classes for one takes a short command longer than all
of this package does.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import overload

    from kernelproof.impl.mount.records import Mount

    _Sequence = Sequence[Mount]
else:
    _Sequence = object


class Mounts(_Sequence):
    """Mounts in an order.

    Attributes:
        mounts: they.
    """

    __slots__ = ("mounts",)

    mounts: tuple[Mount, ...]

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int, /) -> Mount: ...
        @overload
        def __getitem__(self, index: slice, /) -> tuple[Mount, ...]: ...

    def __getitem__(self, index: int | slice, /) -> Mount | tuple[Mount, ...]:
        return self.mounts[index]

    def __len__(self) -> int:
        return len(self.mounts)

    def __iter__(self) -> Iterator[Mount]:
        return iter(self.mounts)

    def __reversed__(self) -> Iterator[Mount]:
        return reversed(self.mounts)

    def __contains__(self, mount: object, /) -> bool:
        return mount in self.mounts

    def count(self, value: Mount, /) -> int:
        """How often a mount is among them."""
        return self.mounts.count(value)

    def index(self, value: Mount, start: int = 0, stop: int = sys.maxsize, /) -> int:
        """The first place of a mount.

        Raises:
            ValueError: it is not among them.
        """
        return self.mounts.index(value, start, stop)


if "_collections_abc" in sys.modules:  # as in every program but a short command, which does not ask
    sys.modules["_collections_abc"].Sequence.register(Mounts)
