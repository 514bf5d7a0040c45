"""Options that a kernel needs: rows of data, and what a configuration has of them."""

from __future__ import annotations

import pytest

from kernelproof.vm.kernel_options import (
    Verdict,
    Wanted,
    describe_missing,
    judge_options,
    parse_config,
    parse_wanted,
    read_wanted,
)

PORT = Wanted("VIRTIO_CONSOLE", True, True, "the way")
ROOT = Wanted("TMPFS", True, False, "a mount")
NICE = Wanted("PVH", False, False, "quicker")


def judge(text: str, modules: tuple[str, ...] | None = None) -> list[tuple[str, str]]:
    verdicts = judge_options(parse_config(text), modules, [PORT, ROOT, NICE])
    return [(verdict.problem, verdict.line) for verdict in verdicts]


def test_rows() -> None:
    """The table that comes along can be read, and has what the init asks for."""
    options = {row.option for row in read_wanted() if row.needed}
    assert {"VIRTIO_CONSOLE", "VIRTIO_PCI", "BLK_DEV_INITRD", "DEVTMPFS", "SERIAL_8250_CONSOLE"} <= options
    assert all(row.why for row in read_wanted())


@pytest.mark.parametrize("text", ["[[needed]]\noption = 'X'", "[[wished]]\noption = 'X'\nwhy = 'y'", "x = 1 y"])
def test_table_that_is_none(text: str) -> None:
    """A row of another kind, or one without its reason, is refused."""
    with pytest.raises(ValueError, match=r"kernel_options|Expected"):
        parse_wanted(text)


def test_config() -> None:
    """Options are read with their values; what is not set is not there."""
    text = '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D="a=b"\n#CONFIG_E=y\n'
    assert parse_config(text) == {"B": "y", "C": "m", "D": '"a=b"'}


def test_all_there() -> None:
    """Nothing is said of options that are built in, or are modules that come along."""
    assert judge("CONFIG_VIRTIO_CONSOLE=y\nCONFIG_TMPFS=y\nCONFIG_PVH=y\n") == [("", "")] * 3
    assert judge("CONFIG_VIRTIO_CONSOLE=m\nCONFIG_TMPFS=y\nCONFIG_PVH=y\n", ("virtio-console",)) == [("", "")] * 3


def test_what_is_lacking() -> None:
    """Each option that is not there comes with the line to set."""
    assert judge("") == [
        ("not set", "CONFIG_VIRTIO_CONSOLE=y"),
        ("not set", "CONFIG_TMPFS=y"),
        ("not set", "CONFIG_PVH=y"),
    ]
    problem, line = "a module, and no modules are given", "CONFIG_VIRTIO_CONSOLE=y, or --modules with it"
    assert judge("CONFIG_VIRTIO_CONSOLE=m\nCONFIG_TMPFS=m\n")[:2] == [
        (problem, line),
        ("a module: it is needed before any can be loaded", "CONFIG_TMPFS=y"),
    ]
    assert judge("CONFIG_VIRTIO_CONSOLE=m\n", ("tun",))[0] == ("its module virtio_console is not given", line)


def test_only_what_is_needed_stops() -> None:
    """Of what is lacking only the needed is a reason to refuse a kernel."""
    verdicts = (Verdict(PORT, "", "not set", "CONFIG_VIRTIO_CONSOLE=y"), Verdict(NICE, "", "not set", "CONFIG_PVH=y"))
    assert describe_missing(verdicts) == ("CONFIG_VIRTIO_CONSOLE: not set (the way)", "CONFIG_VIRTIO_CONSOLE=y")
    assert describe_missing(verdicts[1:]) == ("", "")
