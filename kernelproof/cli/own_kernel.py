"""What `doctor` says of a kernel of the user's own: how it boots, and what it had better be built with."""

from __future__ import annotations

import argparse
from pathlib import Path

from kernelproof.vm.kernel_image import has_pvh_entry
from kernelproof.vm.kernel_options import Verdict, judge_options, parse_config, read_wanted
from kernelproof.vm.own_kernel import OwnKernel, find_own_kernel, list_modules, read_config, read_vmlinux
from kernelproof.vm.provision_tools import find_host_tools

COLUMNS = ("state", "check", "seen", "set", "why")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--kernel-image`, `--modules` and `--kernel-tree`."""
    parser.add_argument("--kernel-image", type=Path, metavar="PATH", help="a bzImage or vmlinux of your own")
    parser.add_argument("--modules", type=Path, metavar="DIR", help="where its modules were installed")
    parser.add_argument("--kernel-tree", type=Path, metavar="DIR", help="the tree that a kernel was built in")


def examine(image: Path | None, modules: Path | None, tree: Path | None) -> list[dict[str, str]]:
    """A row for each thing that was looked at; state is ok, missing, or note for what stops nothing.

    Raises:
        ProvisionError: there is no such kernel, or the modules are another's.
    """
    own = find_own_kernel(image, modules, tree)
    vmlinux = read_vmlinux(own, find_host_tools())
    rows = [_judge_image(own, vmlinux), _judge_modules(own)]
    config = read_config(own, vmlinux)
    if config is None:
        seen = "not known: no .config beside it, none in it"
        return [*rows, _row("note", "options", seen, "CONFIG_IKCONFIG=y", "tests find out by use")]
    where = "in the image" if own.config is None else str(own.config)
    rows.append(_row("ok", "configuration", where, "", ""))
    verdicts = judge_options(parse_config(config.decode("utf-8", "replace")), list_modules(own), read_wanted())
    return [*rows, *(_judge(verdict) for verdict in verdicts)]


def _row(state: str, check: str, seen: str, line: str, why: str) -> dict[str, str]:
    return {"state": state, "check": check, "seen": seen, "set": line, "why": why}


def _judge_image(own: OwnKernel, vmlinux: bytes | None) -> dict[str, str]:
    release = own.banner.release
    if vmlinux is None:
        return _row("note", "image", f"{release}, can't be uncompressed here", "", "it is booted compressed")
    try:
        pvh = has_pvh_entry(vmlinux)
    except ValueError as error:
        return _row("missing", "image", f"{release}, {error}", "", "it is torn")
    if pvh:
        return _row("ok", "image", f"{release}, boots by PVH", "", "")
    return _row("note", "image", f"{release}, no PVH entry", "CONFIG_PVH=y", "it is booted compressed")


def _judge_modules(own: OwnKernel) -> dict[str, str]:
    modules = list_modules(own)
    if modules is None:
        return _row("note", "modules", "none", "", "what tests need must be built in, or come with --modules")
    return _row("ok", "modules", f"{len(modules)} in {own.modules}", "", "")


def _judge(verdict: Verdict) -> dict[str, str]:
    wanted = verdict.wanted
    state = "ok" if not verdict.problem else "missing" if wanted.needed else "note"
    seen = verdict.problem or ("built in" if verdict.seen == "y" else "a module")
    return _row(state, f"CONFIG_{wanted.option}", seen, verdict.line, wanted.why)


def run(arguments: argparse.Namespace) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """All rows, and those that are worth a line at a terminal."""
    rows = examine(arguments.kernel_image, arguments.modules, arguments.kernel_tree)
    return rows, [row for row in rows if row["state"] != "ok" or not row["check"].startswith("CONFIG_")]
