"""Chromium by its remote protocol, over two pipes: no driver, no port, no library.

with Browser(find_browser()) as browser, browser.open(address) as page:
    page.evaluate("document.title")
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_SECONDS = 60.0
_ARGUMENTS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


class BrowserError(Exception):
    """The browser refused a command, threw, or is gone."""


def find_browser() -> str | None:
    """The program of a Chromium: the one that KERNELPROOF_BROWSER names, else one on PATH."""
    named = os.environ.get("KERNELPROOF_BROWSER")
    return named or next((found for name in _NAMES if (found := shutil.which(name))), None)


def library_environment(program: str) -> dict[str, str]:
    """What a program needs to find its libraries and fonts: nothing if it is installed, else its own root's."""
    root = Path(program).parents[3] if program.endswith("/usr/lib/chromium/chromium") else Path("/")
    if root == Path("/"):
        return {}
    libraries = [root / "usr/lib/x86_64-linux-gnu", root / "usr/lib/chromium"]
    return {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "FONTCONFIG_SYSROOT": str(root)}


class Browser:
    """A browser without a window, with a profile of its own that goes with it.

    Args:
        program: Its path.
    """

    def __init__(self, program: str) -> None:
        self._program = program

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(prefix="kernelproof-browser-", ignore_cleanup_errors=True)
        commands_read, self._commands = os.pipe2(os.O_CLOEXEC)
        self._answers, answers_write = os.pipe2(os.O_CLOEXEC)
        # It reads commands from descriptor 3 and answers on 4: a shell-less way to put them there.
        script = "import os, sys; r, w, *argv = sys.argv[1:]; r = os.dup2(int(r), 13); w = os.dup2(int(w), 14); "
        script += "os.dup2(r, 3); os.dup2(w, 4); os.execv(argv[0], argv)"
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [
                *(shutil.which("python3") or "python3", "-c", script, str(commands_read), str(answers_write)),
                *(self._program, *_ARGUMENTS, *sandbox, f"--user-data-dir={self._profile.name}"),
            ],
            pass_fds=(commands_read, answers_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._profile.name, **library_environment(self._program)},
        )
        os.close(commands_read)
        os.close(answers_write)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._commands)  # it ends when nobody can command it any more
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)
        self._profile.cleanup()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Send one command and return its result.

        Raises:
            BrowserError: it was refused, or no answer came in time.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _SECONDS
        while (answer := self._read(deadline)).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait_for(self, method: str) -> dict[str, Any]:
        """The next event of that name, one that came already included.

        Raises:
            BrowserError: none came in time.
        """
        deadline = time.monotonic() + _SECONDS
        while True:
            for place, event in enumerate(self.events):
                if event.get("method") == method:
                    del self.events[: place + 1]
                    return event
            self.events.append(self._read(deadline))

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._answers, 1 << 20) if ready else b""
            if not piece:
                raise BrowserError("the browser ended" if ready else "no answer in time")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @contextmanager
    def page(self, width: int = 1280, height: int = 900, *, dark: bool = False, scripts: bool = True) -> Iterator[Page]:
        """A page of its own."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.call("Page.enable")
        page.call("Runtime.enable")
        page.call("Log.enable")
        page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        page.resize(width, height)
        page.set_media(dark=dark)
        try:
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> Any:
        """A command to this page; errors as of `Browser.call`."""
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int) -> None:
        """Have a window of this size, in CSS pixels."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def set_media(self, *, dark: bool = False, print: bool = False) -> None:
        """What the reader prefers, and whether it is for paper."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", media="print" if print else "screen", features=[scheme, still])

    def go(self, address: str) -> None:
        """Open an address and wait until it is loaded."""
        self._browser.events.clear()
        answer = self.call("Page.navigate", url=address)
        if "errorText" in answer:
            raise BrowserError(f"{address}: {answer['errorText']}")
        if "loaderId" in answer:  # a new document
            self._browser.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; a promise is waited for.

        Raises:
            BrowserError: it threw.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def press(self, key: str, code: str = "", text: str = "") -> None:
        """Press and release a key."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "Escape": 27}
        number = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        common = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        typed = text or ("\r" if key == "Enter" else key if len(key) == 1 else "")
        self.call("Input.dispatchKeyEvent", type="keyDown" if typed else "rawKeyDown", text=typed, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)

    def complaints(self) -> list[str]:
        """What the console was told so far: errors, refusals of the policy."""
        self.evaluate("0")
        found = []
        for event in self._browser.events:
            if event.get("method") == "Log.entryAdded":
                found.append(str(event["params"]["entry"]["text"]))
            elif event.get("method") == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]["text"]))
        return found

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self) -> bytes:
        """The page on paper."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])
