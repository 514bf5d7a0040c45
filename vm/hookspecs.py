"""The hooks that the pytest plugin declares, for plugins that know more about tests than how to run them.

Implement them with `optionalhook=True`: then the implementing plugin works without this one.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest


@pytest.hookspec
def pytest_kernelproof_select(config: pytest.Config, items: list[pytest.Item], series: str, home: bool) -> None:
    """Remove from `items`, in place, what is not for this kernel.

    Called once a chosen kernel, at the end of the collection. What was removed is to be told to
    `pytest_deselected` by the one who removed it.

    Args:
        config: The session's configuration.
        items: The items that run in a machine; one copy of each where several kernels are chosen.
        series: The kernel: "6.12", or "image-RELEASE" for an image of the user's own.
        home: Whether what does not depend on the kernel belongs here: to one of the chosen, the default if it is there.
    """


@pytest.hookspec
def pytest_kernelproof_machine(config: pytest.Config, facts: Mapping[str, object]) -> None:
    """Called once a template, in the process that owns the terminal, with what its machines are made of.

    Args:
        config: The session's configuration.
        facts: `kernel` {name, series, release, package, build, config_digest}, `guest` {root_digest, python,
            observers}, `machine` {qemu, accelerator, time, cpus}.
    """


@pytest.hookspec
def pytest_kernelproof_item_data(item: pytest.Item, series: str) -> Mapping[str, object] | None:
    """Plain data that travels into the machine with this item, to the guest's `pytest_kernelproof_item`.

    Called right before the machine is made; the mappings of all plugins are merged.

    Args:
        item: The item, as the host collected it.
        series: The kernel.
    """
