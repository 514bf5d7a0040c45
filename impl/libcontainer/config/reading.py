"""Text and files to configurations: read, decoded, checked; everything that is wrong with one is told at once.

loaded = load_config("/bundle")                  config.json of a bundle
config = parse_config(data)                      its text
process = load_process("/tmp/process.json")      what exec --process names
resources = parse_resources(data)                what update --resources gets
"""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.config import jsontext
from kernelproof.impl.libcontainer.config.checking import check_config, check_process, check_resources
from kernelproof.impl.libcontainer.config.decoding import read_value
from kernelproof.impl.libcontainer.config.problems import ConfigError, Problem
from kernelproof.impl.libcontainer.config.records import Config, Process, Resources

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from kernelproof.impl.libcontainer.config.decoding import Reading
    from kernelproof.impl.libcontainer.config.findings import Findings
    from kernelproof.impl.libcontainer.config.record import Record

    R = TypeVar("R", bound=Record)

FILE = "config.json"


class Loaded:
    """A configuration with where it came from.

    Attributes:
        config: the records.
        data: the bytes that were read, for a private copy: what is in the bundle may change after create.
        bundle: the bundle's absolute path, as it was named.
        warnings: what is odd: unknown keys, names that mean nothing here.
    """

    __slots__ = ("bundle", "config", "data", "warnings")

    def __init__(self, config: Config, data: bytes, bundle: str, warnings: tuple[Problem, ...]) -> None:
        self.config = config
        self.data = data
        self.bundle = bundle
        self.warnings = warnings


def load_config(bundle: str | os.PathLike[str] = ".", *, own: bool = False) -> Loaded:
    """Reads and checks the config.json of a bundle.

    Args:
        bundle: the directory, absolute or relative to the working directory.
        own: whether our own keys (networks, landlock …) are read too; never for what others wrote.

    Raises:
        OSError: the file can't be read: ENOENT, EACCES, EISDIR, ENOTDIR …
        ConfigError: it is no JSON, or not a configuration that can be taken.

    Source: OCI runtime specification 1.3, bundle.md.
    """
    path = os.path.join(bundle, FILE)
    data = read_bounded(path)
    config, warnings = _read(data, path, Config, own, _whole)
    return Loaded(config, data, os.path.abspath(bundle), warnings)


def parse_config(data: bytes | str, source: str = FILE, *, own: bool = False) -> Config:
    """Decodes and checks the text of a config.json; warnings are dropped.

    Raises:
        ConfigError: it is no JSON, or not a configuration that can be taken.
    """
    return _read(data, source, Config, own, _whole)[0]


def parse_config_with_warnings(
    data: bytes | str, source: str = FILE, *, own: bool = False
) -> tuple[Config, tuple[Problem, ...]]:
    """As `parse_config`, with what is odd beside it."""
    return _read(data, source, Config, own, _whole)


def load_process(path: str | os.PathLike[str]) -> Process:
    """Reads and checks a file with a `process` object, as exec takes it.

    Raises:
        OSError: the file can't be read.
        ConfigError: it is no JSON, or no process that can be started.
    """
    return _read(read_bounded(path), os.fspath(path), Process, False, _process)[0]


def parse_resources(data: bytes | str, source: str) -> Resources:
    """Decodes and checks the text of a `linux.resources` object, as update takes it: not all limits need be in it.

    Raises:
        ConfigError: it is no JSON, or these can't be limits.
    """
    return _read(data, source, Resources, False, _resources)[0]


def read_bounded(path: str | os.PathLike[str]) -> bytes:
    """Reads a file up to one byte more than is taken; what is longer is refused when it is parsed.

    Raises:
        OSError: it can't be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        parts = []
        left = jsontext.MOST_BYTES + 1
        while left and (part := os.read(descriptor, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        os.close(descriptor)
    return b"".join(parts)


def check_all(record: Record, source: str, findings: Findings) -> None:
    """Raises ConfigError if the checks found a problem; for records that were built, not read."""
    if findings.problems:
        raise ConfigError(source, findings.problems)


def _whole(record: Record) -> Findings:
    assert isinstance(record, Config)
    return check_config(record)


def _process(record: Record) -> Findings:
    assert isinstance(record, Process)
    return check_process(record, at="$")


def _resources(record: Record) -> Findings:
    assert isinstance(record, Resources)
    return check_resources(record, at="$", whole=False)


def _read(
    data: bytes | str, source: str, owner: type[R], own: bool, check: Callable[[Record], Findings]
) -> tuple[R, tuple[Problem, ...]]:
    try:
        value = jsontext.parse(data)
    except ValueError as error:
        raise ConfigError(source, [Problem("$", "", str(error))]) from None
    reading = read_value(value, owner, own)
    record = reading.record
    assert isinstance(record, owner)
    findings = check(record)
    problems = _without_echoes(reading, findings)
    if problems:
        raise ConfigError(source, problems)
    return record, (*reading.warnings, *findings.warnings)


def _without_echoes(reading: Reading, found: Findings) -> list[Problem]:
    """Leaves out what the checks saw by places where a neutral value stands for one that could not be read."""
    broken = [problem.path for problem in reading.problems]
    if not broken:
        return found.problems
    return [
        *reading.problems,
        *[
            problem
            for problem, grounds in zip(found.problems, found.grounds, strict=True)
            if not any(_touch(ground, path) for ground in grounds for path in broken)
        ],
    ]


def _touch(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and long[len(short) : len(short) + 1] in ("", ".", "[")
