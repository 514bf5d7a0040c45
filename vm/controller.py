"""The process that controls xdist's workers: it makes their templates, and tells what they are made of."""

from __future__ import annotations

from functools import cached_property

import pytest

from kernelproof.vm.lending import Lender
from kernelproof.vm.plugin import chosen_kernels, own_kernel
from kernelproof.vm.provider import QemuProvider
from kernelproof.vm.replay import rebuild_warning
from kernelproof.vm.sessions import OpenSession, SessionPlan, open_session
from kernelproof.vm.telling import choose_kernels, open_progress_of, tell_machine


class Controller:
    """Registered when the first worker is configured.

    Args:
        config: pytest's configuration.
        provider: What makes machines.
    """

    def __init__(self, config: pytest.Config, provider: QemuProvider) -> None:
        self._config = config
        self._provider = provider
        self._lender = Lender(self._build, provider.cancel)
        self._is_ready = False

    @cached_property
    def kernels(self) -> str | None:
        """What `all` means, so that all workers collect the same; None where that word was not used.

        Raises:
            UsageError: no kernel can be had.
        """
        words = [word.strip() for word in chosen_kernels(self._config).split(",")]
        if "all" not in words:
            return None
        chosen = choose_kernels(self._config, self._provider)
        own = own_kernel(self._config)
        return ",".join(chosen if own is None else chosen[:-1])

    @property
    def address(self) -> str:
        """Where workers find the lender."""
        return self._lender.address

    def _build(self, plan: SessionPlan) -> OpenSession:
        if not self._is_ready:  # the workers asked the same, and told the user what was wrong
            self._provider.select(self.kernels or chosen_kernels(self._config))
            self._is_ready = True
        with open_progress_of(self._config) as progress:
            return open_session(self._provider, self._config, plan, progress)

    def _tell(self) -> None:
        # In pytest's own thread, and not later than the first report that comes of it.
        for session, key, seconds in self._lender.take_told():
            tell_machine(self._config, session.facts, key, seconds)
            for warning in session.warnings:
                arguments = {"warning_message": rebuild_warning(warning), "when": warning["when"]}
                hook = self._config.hook.pytest_warning_recorded
                hook.call_historic(kwargs={**arguments, "nodeid": "", "location": None})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Tell what is new."""
        self._tell()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Tell the last of it, and lend no more: workers that still run hold what they need, and none waits in vain."""
        self._tell()
        self._lender.close()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Give every template back."""
        self._lender.close()
