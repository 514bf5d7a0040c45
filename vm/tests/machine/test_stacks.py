"""A test that hangs in virtual time is told with the stacks of its Python, and those of the kernel's tasks."""

from __future__ import annotations

import re

import pytest

from kernelproof.vm.cache import default_cache_root

KERNEL = "6.12"
CACHE = default_cache_root()  # before a pytester gives itself a home of its own


def test_hang_in_virtual_time(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy in Python, waiting for a lock or in a system call: the log says in which line, and what other threads do."""
    monkeypatch.setenv("KERNELPROOF_CACHE", str(CACHE))
    pytester.makepyfile(
        test_hang="""
        import os, pytest, threading
        pytestmark = pytest.mark.machine

        def wait_in_a_thread(): threading.Event().wait()

        def test_busy():
            while True: pass

        def test_lock():
            threading.Thread(target=wait_in_a_thread, daemon=True).start()
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()

        def test_call(): os.read(os.pipe()[0], 1)

        def test_many_messages_later(): pass
        """
    )
    result = pytester.runpytest("-p", "no:cacheprovider", "--kernel", KERNEL, "--vm-timeout", "3")
    result.assert_outcomes(errors=3, passed=1)
    text = result.stdout.str()
    for name, others in (("test_busy", ()), ("test_lock", ("wait_in_a_thread",)), ("test_call", ())):
        part = text.partition(f"ERROR at setup of {name} ")[2].partition("ERROR at setup of")[0]
        assert "most recent call first" in part, part
        for function in (name, *others):
            assert re.search(rf'File ".*test_hang.py", line \d+ in {function}\b', part), part
        assert "NMI" in part
