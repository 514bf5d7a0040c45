"""Starts programs that Ctrl-C ends, whoever starts them: a shell's job in the background hands on an ignored SIGINT."""

from __future__ import annotations

import signal
import sys

_LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"

PYTEST = (sys.executable, "-c", f"{_LISTEN}; import pytest; raise SystemExit(pytest.main())")
KERNELPROOF = (sys.executable, "-c", f"{_LISTEN}; from kernelproof.cli.main import main; raise SystemExit(main())")


def listen() -> None:
    """Be one of them; for a script that is started by its text. What nohup(1) has ignored ends it too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
