"""What the host asks a session for, and the command line that comes of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

# The host has read its own command line; what is written in the project's file for it is not for the guest.
_OVERRIDES = ("addopts=", "required_plugins=")


class SessionRequest(NamedTuple):
    """The host's `session` message.

    Args:
        directory: Where pytest is started.
        files: The test files to collect.
        plugins: Arguments of `-p`.
        options: Values of pytest's options by their names in `config.option`.
        rootdir: The host's root directory.
        inifile: The host's configuration file, or None.
        environment: What is added to the environment.
        first: Folders put before, in their order, all others on the import path.
        debugs: Whether its items may be debugged at the host's terminal.
        coverage: How the host measures coverage; None if it does not.
    """

    directory: str
    files: tuple[str, ...]
    plugins: tuple[str, ...]
    options: Mapping[str, object]
    rootdir: str
    inifile: str | None
    environment: Mapping[str, str]
    first: tuple[str, ...]
    debugs: bool = False
    coverage: Mapping[str, object] | None = None


def parse_request(message: Mapping[str, object]) -> SessionRequest:
    """The request in a `session` message.

    Raises:
        KeyError: it lacks a field.
    """
    return SessionRequest(
        directory=str(message["directory"]),
        files=tuple(cast("list[str]", message["arguments"])),
        plugins=tuple(cast("list[str]", message["plugins"])),
        options=cast("dict[str, object]", message["options"]),
        rootdir=str(message["rootdir"]),
        inifile=cast("str | None", message["inifile"]),
        environment=cast("dict[str, str]", message["environment"]),
        first=tuple(cast("list[str]", message["first"])),
        debugs=bool(message.get("debugs")),
        coverage=cast("dict[str, object] | None", message.get("coverage")),
    )


def plan_arguments(request: SessionRequest) -> list[str]:
    """The command line of the guest's pytest.

    Nothing is left to the project's `addopts`: the host sends the values that came of it.
    """
    arguments = [word for override in _OVERRIDES for word in ("-o", override)]
    arguments += ["--rootdir", request.rootdir]
    if request.inifile is not None:
        arguments += ["-c", request.inifile]
    for plugin in request.plugins:
        arguments += ["-p", plugin]
    return [*arguments, *request.files]
