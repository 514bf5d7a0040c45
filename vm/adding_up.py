"""An option that can be given more than once, or with commas: `--kernel 6.12 --kernel 5.10` is `--kernel 6.12,5.10`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


class AddUp(argparse.Action):
    """Joins what is given each time with commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Add what was given."""
        before = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, f"{before},{values}" if before else values)
