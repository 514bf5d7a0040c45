"""Descriptors that come with a call: whose they are, and what the program is told of them."""

from __future__ import annotations

import os

import pytest

from kernelproof.impl.libcontainer.activation import check_given, count_listening, with_listening
from kernelproof.impl.libcontainer.config.records import Config


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_PID": "7"}, 2),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "8"}, 0),
        ({"LISTEN_FDS": "2"}, 0),
        ({"LISTEN_FDS": "-2", "LISTEN_PID": "7"}, 0),
        ({"LISTEN_FDS": "²", "LISTEN_PID": "7"}, 0),
        ({}, 0),
    ],
    ids=["ours", "another's", "nobody's", "negative", "no digits", "none"],
)
def test_whose_sockets(environ: dict[str, str], count: int) -> None:
    """Only what names this process is for it."""
    assert count_listening(environ, 7) == count


def test_what_the_program_is_told() -> None:
    """Count, its own pid and names are set; what the image says of these is gone."""
    config = Config.minimal("rootfs", ["true"], env=("PATH=/bin", "LISTEN_FDS=9", "LISTEN_PID=1"))
    told = with_listening(config, 2, {"LISTEN_FDNAMES": "web:tls"})
    assert told.process is not None
    assert told.process.env == ("PATH=/bin", "LISTEN_FDS=2", "LISTEN_PID=", "LISTEN_FDNAMES=web:tls")
    assert with_listening(config, 0, {}) is config


def test_own_descriptors_are_not_given_away() -> None:
    """A descriptor that is not open, or that this process opened itself, did not come with the call."""
    with pytest.raises(ValueError, match="did not come with this call"):
        check_given(5000)
    opened = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(ValueError, match=r"descriptor \d+ of"):
            check_given(opened - 2)
    finally:
        os.close(opened)
    check_given(0)
