"""Answers the host's messages, one at a time, until the host is gone.

It runs in the machine as a child of PID 1, or over a socket pair in a test without a machine. What is slow to import
is imported before the first message, so that the template holds it and no clone pays for it.
"""

from __future__ import annotations

import gc
import os
import platform
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from kernelproof.vm.guest.attendance import attend
from kernelproof.vm.guest.commands import call_function, run_command
from kernelproof.vm.guest.files import send_pulled, store_pushed
from kernelproof.vm.guest.frames import PROTOCOL, FrameError
from kernelproof.vm.guest.port import Port
from kernelproof.vm.guest.wake import Waker, settle_on_first_cpu

SESSION_MODULE = "kernelproof.vm.guest.session"
_REHEARSAL_MODULE = "kernelproof.vm.guest.rehearsal"
_OWN_PACKAGES = ("kernelproof", "kernelproof.vm")


def answer_ping(port: Port, message: Mapping[str, object]) -> None:
    """Answer `ping`."""
    port.send({"kind": "pong"})


def run_session(port: Port, message: Mapping[str, object]) -> None:
    """Answer `session`: make the project importable and hand the port to pytest.

    Raises:
        ImportError: this agent was started without the session module.
    """
    for path in cast("list[str]", message.get("path", [])):
        if path not in sys.path:
            sys.path.append(path)
    adopt_packages(sys.path)
    # Imported here, not above: it pulls in pytest, which a machine without tests does not have.
    session = import_module(SESSION_MODULE)
    session.serve_session(port, dict(message))


def adopt_packages(path: list[str]) -> None:
    """Let `kernelproof.impl` and all else of an installed kernelproof be found beside the agent's few modules.

    The agent's own modules come from its archive and are imported already; the rest lies in the project or among
    the guest's packages.
    """
    for name in _OWN_PACKAGES:
        package = import_module(name)
        for folder in path:
            candidate = str(Path(folder, *name.split(".")))
            if candidate not in package.__path__ and os.path.isfile(os.path.join(candidate, "__init__.py")):
                package.__path__.append(candidate)


HANDLERS: Mapping[str, Callable[[Port, Mapping[str, object]], None]] = {
    "ping": answer_ping,
    "exec": run_command,
    "attend": attend,
    "call": call_function,
    "push": store_pushed,
    "pull": send_pulled,
    "session": run_session,
}


def answer(port: Port, message: Mapping[str, object]) -> None:
    """Answer one message; what its handler raises is the answer."""
    kind = message.get("kind")
    handler = HANDLERS.get(str(kind))
    try:
        if message.get("protocol") != PROTOCOL:
            raise FrameError(f"protocol {message.get('protocol')!r}, this agent speaks {PROTOCOL}")
        if handler is None:
            raise FrameError(f"unknown kind of message {kind!r}")
        handler(port, message)
    except Exception as error:  # noqa: BLE001 - the host is told whatever went wrong; nothing is swallowed
        text = "".join(traceback.format_exception(error))
        port.send({"kind": "error", "type": type(error).__name__, "text": text[-65536:]})


def serve(descriptor: int, profile: Mapping[str, object], missing: tuple[str, ...]) -> None:
    """Import what the profile lists, say hello, answer messages.

    Args:
        descriptor: The port, open for reading and writing; closed at the end.
        profile: The machine's profile as the host wrote it: `imports` is used here.
        missing: The kernel modules that this kernel lacks, for the hello.
    """
    waker = Waker()
    port = Port(descriptor, waker, settle_on_first_cpu)
    absent = []
    wanted = cast("list[str]", profile["imports"])
    for name in wanted:
        try:
            import_module(name)
        except ImportError:
            absent.append(name)
    if SESSION_MODULE in wanted and SESSION_MODULE not in absent:
        import_module(_REHEARSAL_MODULE).rehearse(waker)
    gc.collect()
    gc.freeze()
    port.stay_awake()
    hello = {"release": os.uname().release, "python": platform.python_version()}
    port.send(
        {"kind": "hello", "protocol": PROTOCOL, **hello, "missing_modules": list(missing), "missing_imports": absent}
    )
    try:
        while True:
            answer(port, port.receive())
    except EOFError:
        return
    finally:
        os.close(descriptor)
