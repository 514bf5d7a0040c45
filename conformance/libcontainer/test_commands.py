"""Subcommands of a runtime that the specification does not know, and all three have: list, ps, spec."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.box import ACCEPTED, REFUSED
from kernelproof.conformance.libcontainer.configs import config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@behaviour("oci.list.containers")
def test_list(box: Box, seen: Seen) -> None:
    """list shows every container of the root directory with its status."""
    box.create(config("sleep", "1000"), "one")
    box.begin(config("sleep", "1000"), "two")
    found = sorted((one["id"], one["status"]) for one in json.loads(box.command("list", "--format", "json")))
    box.delete("one", force=True)
    box.delete("two", force=True)
    assert seen(found) == [("one", "created"), ("two", "running")]


@behaviour("oci.list.quiet")
def test_list_of_ids(box: Box, seen: Seen) -> None:
    """list --quiet prints IDs alone, one a line."""
    box.create(config("sleep", "1000"), "one")
    found = box.command("list", "--quiet")
    box.delete("one", force=True)
    assert seen(found) == "one\n"


@behaviour("oci.ps.json")
def test_ps(box: Box, seen: Seen) -> None:
    """ps --format json prints the pids of the container's processes, as the host has them."""
    pid = box.begin(config("sleep", "1000"))
    found = json.loads(box.command("ps", "--format", "json", "box")) == [pid]
    box.delete(force=True)
    assert seen(found) is True


@behaviour("oci.spec.writes")
def test_spec(box: Box, seen: Seen) -> None:
    """spec writes a config.json that create takes, but for its terminal."""
    folder = box.bundle / "fresh"
    folder.mkdir()
    box.command("spec", "--bundle", str(folder))
    wanted = json.loads((folder / "config.json").read_text())
    wanted["process"]["terminal"] = False
    assert seen(box.answer(wanted)) == ACCEPTED


@behaviour("oci.spec.exists")
def test_spec_beside_another(box: Box, seen: Seen) -> None:
    """spec does not replace a config.json."""
    folder = box.bundle / "fresh"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    answer = box.does(lambda: box.command("spec", "--bundle", str(folder)))
    assert seen((answer, (folder / "config.json").read_text())) == (REFUSED, "{}")
