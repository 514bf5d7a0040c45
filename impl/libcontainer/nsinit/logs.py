"""What a call says beside its output: records for engines and people, on standard error and in a file.

As text, a record is one line for people. As JSON it is one object a line with level, msg and time, which engines read:
the last one of level error is to them the error. With a file, records go there, errors to standard error as well.

Source: opencontainers/runc, runc(8), "--log" and "--log-format"; containers/conmon; containerd's runc shim.
"""

from __future__ import annotations

import os
import time

from kernelproof.impl.libcontainer.config.jsontext import format_value

ERROR, WARNING, INFO, DEBUG = "error", "warning", "info", "debug"
PROGRAM = "nsinit"


class Log:
    """Where records go. The file is opened at once, with the caller's rights, before any namespace is entered.

    Raises:
        OSError: the file can't be opened for appending.
    """

    __slots__ = ("debugging", "fd", "json")

    def __init__(self, path: str = "", style: str = "text", *, debugging: bool = False) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
        self.fd = os.open(path, flags, 0o644) if path else -1
        self.json = style == "json"
        self.debugging = debugging

    def error(self, text: str, told: dict[str, object] | None = None) -> None:
        """Records why the call failed; `told` is the same as values, which stand in a record of JSON as `error`."""
        self._record(ERROR, text, told)
        if self.fd >= 0:
            _write(2, f"{PROGRAM}: {text}\n")

    def warning(self, text: str) -> None:
        """Records what was not as it should be, though the call goes on."""
        self._record(WARNING, text)

    def info(self, text: str) -> None:
        """Records what was done."""
        self._record(INFO, text)

    def debug(self, text: str) -> None:
        """Records a step, if steps are asked for."""
        if self.debugging:
            self._record(DEBUG, text)

    def _record(self, level: str, text: str, told: dict[str, object] | None = None) -> None:
        if self.json:
            _write(self.fd if self.fd >= 0 else 2, format_record(level, text, time.time(), told) + "\n")
        elif self.fd >= 0:
            _write(self.fd, f"{format_time(time.time())} {level}: {text}\n")
        else:
            _write(2, f"{PROGRAM}: {'' if level == ERROR else level + ': '}{text}\n")


def format_record(level: str, text: str, seconds: float, told: dict[str, object] | None = None) -> str:
    """A record as one line of JSON."""
    record = {"level": level, "msg": text, "time": format_time(seconds)}
    return format_value(record if told is None else {**record, "error": told})


def format_time(seconds: float) -> str:
    """A time as RFC 3339 has it, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _write(fd: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return  # a full disk or a closed pipe must not hide what the record is about
