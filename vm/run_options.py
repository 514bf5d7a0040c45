"""How a run uses machines, as its options say. Pure but for the one number that is drawn."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import pytest

SCOPES = ("test", "class", "module", "session")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says.

    Args:
        timeout: Wall seconds after which an item's machine is given up.
        scope: How long a machine is used: one of `SCOPES`.
        keep: Whether the machine of an item that failed is kept.
        repeat: How often each item runs.
        seed: What the repetitions are drawn from.
        debugs: Whether pytest's debugger is asked for.
    """

    timeout: float = 60.0
    scope: str = "test"
    keep: bool = False
    repeat: int = 1
    seed: int = 0
    debugs: bool = False

    @property
    def varies(self) -> bool:
        """Whether items run as repetitions that differ."""
        return self.repeat > 1 or self.seed != 0

    @property
    def is_real(self) -> bool:
        """Whether all machines have real time: someone is to look into them."""
        return self.keep or self.debugs


def read_run_options(config: pytest.Config) -> RunOptions:
    """The options of a run.

    Raises:
        UsageError: options that do not go together.
    """
    repeat, vary = config.getoption("vm_repeat"), config.getoption("vm_vary")
    debugs = bool(config.getoption("usepdb") or config.getoption("trace"))
    scope, keep = str(config.getoption("vm_scope")), bool(config.getoption("vm_keep"))
    if config.getoption("vm_none") and (debugs or keep):
        raise pytest.UsageError("--vm-none has no machine to debug in or to keep: leave it out, and choose a --kernel")
    if vary is not None and repeat > 1:
        raise pytest.UsageError("--vm-vary names one repetition, --vm-repeat draws many: use one of them")
    if scope != "test" and (repeat > 1 or vary is not None):
        raise pytest.UsageError("--vm-repeat and --vm-vary need a machine for each test: not with --vm-scope")
    seed = vary if vary is not None else shared_seed(config) if repeat > 1 else 0
    return RunOptions(config.getoption("vm_timeout"), scope, keep, repeat, seed, debugs)


def shared_seed(config: pytest.Config) -> int:
    """The number that all processes of a run draw their repetitions from."""
    given = getattr(config, "workerinput", {}).get("testrunuid")
    drawn = secrets.token_bytes(6) if given is None else hashlib.sha256(str(given).encode()).digest()[:6]
    return int.from_bytes(drawn, "big") | 1
