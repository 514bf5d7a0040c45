"""The hooks that the guest's session declares, for plugins and conftest files that are loaded in a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping


class GuestHooks:
    """They are not called on the host."""

    @pytest.hookspec
    def pytest_kernelproof_item(self, item: pytest.Item, data: Mapping[str, object]) -> None:
        """Called before an item runs, with what the host's plugins sent for it."""

    @pytest.hookspec
    def pytest_kernelproof_rehearse(self, session: pytest.Session) -> None:
        """Called once where many machines are to be made, so that what they all do was done before they are.

        A test that runs what ran here is faster: QEMU has translated it. It runs in a child of the session that has
        mount, network, UTS and IPC namespaces and a folder for temporary files of its own, and is killed if it takes
        30 s of the machine's time. All else that it changes is in every machine: it must undo that. An error that it
        raises is dropped, and what it left out is as slow as before.
        """
