"""The commands as they were in 2014, with `data_path` in the environment: container.json lies there, the root is here.

    data_path=/srv/web nsinit exec httpd -f      the working directory is the root; in the container, if it runs
    data_path=/srv/web nsinit stats              also pause, unpause, config

Without that variable the words mean what they mean to other runtimes today. There was one container for each data_path,
without a name; its name here is made from the path. `pid` is written there as it was.

Source: docker/libcontainer v1.0.0 to v1.2.0, nsinit/.
"""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.config.legacy import FILE, parse_legacy
from kernelproof.impl.libcontainer.config.reading import read_bounded
from kernelproof.impl.libcontainer.config.records import Config, Root
from kernelproof.impl.libcontainer.nsinit.options import UsageError
from kernelproof.impl.libcontainer.state import MOST_ID_BYTES

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.")
_NAMED = ("pause", "unpause", "resume", "stats")


def translate(words: list[str], data_path: str) -> list[str]:
    """The words of 2014 as those of today.

    Args:
        words: the subcommand and what follows.
        data_path: the directory with container.json.

    Raises:
        UsageError: exec without a program: it was a crash then.
    """
    name, *rest = words
    if name == "exec":
        if not rest:
            raise UsageError("COMMAND is missing")
        return ["exec-2014", "--", *rest]
    if name in _NAMED and not [word for word in rest if not word.startswith("-")]:
        return [name, *rest, *(["--format", "json"] if name == "stats" and not rest else []), name_of(data_path)]
    if name == "config" and not rest:
        return [name, data_path]
    return words


def name_of(data_path: str) -> str:
    """The ID of the container of a directory: its absolute path, in the letters that an ID may have."""
    path = os.path.abspath(data_path)
    return ("2014" + "".join([letter if letter in _LETTERS else "-" for letter in path]))[:MOST_ID_BYTES]


def load(data_path: str, args: tuple[str, ...]) -> Config:
    """The configuration, with the working directory as its root.

    Raises:
        OSError: container.json can't be read.
        ConfigError: it is of generation A, or can't be taken.
    """
    path = os.path.join(data_path, FILE)
    config = parse_legacy(read_bounded(path), path, args)
    root = config.root or Root(".")
    return config.replace(root=root.replace(path=os.path.realpath(root.path)))
