"""The place of a container's cgroup, and changes of its resources while it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.configs import config
from kernelproof.conformance.libcontainer.observing import CGROUPS, cgroup_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@behaviour("oci.cgroups-path.absolute")
def test_absolute_path(box: Box, seen: Seen) -> None:
    """An absolute cgroupsPath counts from the mount point of cgroups."""
    pid = box.begin(config("sleep", "1000", linux={"cgroupsPath": f"/made/box-of-{box.name}"}))
    found = cgroup_of(pid).relative_to(CGROUPS)
    box.delete(force=True)
    assert seen(str(found).startswith(f"made/box-of-{box.name}")) is True


@behaviour("oci.cgroups-path.relative")
def test_relative_path(box: Box, seen: Seen) -> None:
    """The same relative cgroupsPath is the same place each time."""
    places = []
    for _ in range(2):
        box.create(config("true", linux={"cgroupsPath": f"box-of-{box.name}"}))
        places.append(cgroup_of(box.pid()))
        box.delete(force=True)
    assert seen(places[0] == places[1]) is True


@behaviour("oci.cgroups-path.made")
def test_path_is_made(box: Box, seen: Seen) -> None:
    """The cgroup of cgroupsPath is made if it does not exist."""
    before = (CGROUPS / f"made-for-{box.name}").exists()
    box.create(config("true", linux={"cgroupsPath": f"/made-for-{box.name}/box"}))
    after = (CGROUPS / f"made-for-{box.name}/box").is_dir()
    box.delete(force=True)
    assert seen((before, after)) == (False, True)


@behaviour("oci.cgroups-path.not-empty")
def test_path_of_another_container(box: Box, seen: Seen) -> None:
    """create in a cgroup where another container runs does not touch that container."""
    path = f"/box-of-{box.name}"
    pid = box.begin(config("sleep", "1000", linux={"cgroupsPath": path}))
    box.does(lambda: box.create(config("true", linux={"cgroupsPath": path}), "second"))
    box.delete("second", force=True)
    found = (box.status(), box.pid() == pid)
    box.delete(force=True)
    assert seen(found) == ("running", True)


LIMITED = {"memory": {"limit": 67108864}, "pids": {"limit": 77}}
MORE = {"memory": {"limit": 100663296}}


@pytest.mark.parametrize(
    ("resources", "name", "value"),
    [
        behaviour_row("oci.update.memory", {"memory": {"limit": 67108864}}, "memory.max", "100663296\n"),
        behaviour_row("oci.update.keeps-others", LIMITED, "pids.max", "77\n"),
    ],
)
def test_update(box: Box, seen: Seen, resources: Mapping[str, object], name: str, value: str) -> None:
    """update changes the limit that it names of a running container, and leaves the others alone."""
    path = f"/box-of-{box.name}"
    box.begin(config("sleep", "1000", linux={"cgroupsPath": path, "resources": resources}))
    (box.bundle / "resources.json").write_text(json.dumps(MORE))
    box.command("update", "--resources", str(box.bundle / "resources.json"), "box")
    changed = (CGROUPS / path[1:] / "memory.max").read_text()
    found = (CGROUPS / path[1:] / name).read_text()
    box.delete(force=True)
    assert changed == "100663296\n"
    assert seen(found) == value


@behaviour("oci.update.pids-option")
def test_update_by_option(box: Box, seen: Seen) -> None:
    """update --pids-limit changes that limit."""
    path = f"/box-of-{box.name}"
    box.begin(config("sleep", "1000", linux={"cgroupsPath": path}))
    box.command("update", "--pids-limit", "55", "box")
    found = (CGROUPS / path[1:] / "pids.max").read_text()
    box.delete(force=True)
    assert seen(found) == "55\n"
