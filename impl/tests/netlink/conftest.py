"""A network namespace of a test's own, in the thread that runs it; and kernels that are played."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from errno import EPERM

import pytest

from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare


def reason_against_namespaces() -> str:
    """Try to make a network namespace on a thread that ends, and return why that cannot be had, or ""."""
    reasons: list[str] = []

    def probe() -> None:
        try:
            unshare(CloneFlag.NEWNET)
        except OSError as error:
            reasons.append(f"no network namespace of one's own here: {error.strerror}")

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    return reasons[0] if reasons else ""


@pytest.fixture(scope="session")
def _namespaces() -> str:
    return reason_against_namespaces()


@pytest.fixture
def in_namespace(_namespaces: str) -> Callable[[Callable[[], object]], None]:
    """Run a function on a new thread in a new network namespace, and raise what it raises."""
    if _namespaces:
        pytest.skip(_namespaces)

    def run(work: Callable[[], object]) -> None:
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                unshare(CloneFlag.NEWNET)
                work()
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    return run


@pytest.fixture
def namespace(_namespaces: str, tmp_path: object) -> object:
    """A descriptor of a new network namespace that nobody is in; a probed reason where there can be none."""
    if _namespaces:
        pytest.skip(_namespaces)
    made: list[int] = []

    def make() -> None:
        unshare(CloneFlag.NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, EPERM
    yield made[0]
    os.close(made[0])
