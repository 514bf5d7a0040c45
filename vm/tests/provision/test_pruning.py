"""What of a cache goes and what stays."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from kernelproof.vm.cache import Cache, digest_record
from kernelproof.vm.distribution import read_distribution
from kernelproof.vm.kernel import plan_kernel_request
from kernelproof.vm.kernel_select import read_rows
from kernelproof.vm.profiles import find_profile
from kernelproof.vm.provision_tools import plan_tools_request
from kernelproof.vm.pruning import find_current, forget_lost_choices, plan_pruning, remove, summarize
from kernelproof.vm.root import plan_root_request

DAY = 86400.0


def make(cache: Cache, kind: str, name: str, days: float, record: object = None) -> str:
    """An entry that was last used so many days ago."""
    digest = digest_record({"kind": kind, "name": name})
    with cache.building(kind, digest) as work:
        (work / "file").write_bytes(bytes(8192))
        if record is not None:
            (work / "record.json").write_text(json.dumps({"record": {"spec": record}}))
    then = time.time() - days * DAY
    os.utime(cache.path(kind, digest) / ".seen", (then, then))
    return digest


def names(cache: Cache, days: float = 30) -> list[tuple[str, str]]:
    return [(item.kind, item.path.name) for item in plan_pruning(cache, days)]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_age(cache: Cache) -> None:
    """What nobody used for so many days goes; what was used lately stays, whatever the days."""
    old, young = make(cache, "site", "old", 31), make(cache, "site", "young", 29)
    busy = make(cache, "site", "busy", 0.01)
    assert names(cache) == [("site", old)]
    assert set(names(cache, 1)) == {("site", old), ("site", young)}
    assert ("site", busy) not in names(cache, 0)


def test_sessions(cache: Cache) -> None:
    """A session goes whenever somebody cleans: a cache that is carried from run to run is not for them."""
    digest = make(cache, "session", "new", 0)
    assert names(cache) == [("session", digest)]


def test_use_is_noted(cache: Cache) -> None:
    """An entry that is found is used: its age begins anew."""
    digest = make(cache, "site", "old", 31)
    assert cache.find("site", digest) is not None
    assert names(cache) == []


def test_what_the_table_leads_to(cache: Cache) -> None:
    """Tools, kernels and roots that this version asks for stay at any age; those of older wishes go."""
    suites = read_distribution().guest
    tools = make(cache, "tools", "now", 99)
    row = read_rows().rows[0]
    kept = {"kernel": make(cache, "kernel", "now", 99), "root": make(cache, "root", "now", 99)}
    cache.remember("tools", digest_record(plan_tools_request(suites)), tools)
    cache.remember("kernel", digest_record(plan_kernel_request(read_rows(), row, tools)), kept["kernel"])
    packages = find_profile("plain").packages
    cache.remember("root", digest_record(plan_root_request(packages, suites, tools)), kept["root"])
    older = make(cache, "kernel", "older", 99)
    cache.remember("kernel", "f" * 64, older)
    assert find_current(cache) == {("tools", tools), *kept.items()}
    assert names(cache) == [("kernel", older)]


def test_templates(cache: Cache) -> None:
    """A template goes with its kernel or root, or when its record can't be read; else by age."""
    kernel, root = make(cache, "kernel", "k", 1), make(cache, "root", "r", 1)
    gone = make(cache, "kernel", "gone", 40)

    def template(name: str, kernel: str, root: str, days: float = 2) -> str:
        return make(cache, "template", name, days, {"kernel_digest": kernel, "initrd_digests": [root]})

    good = template("good", kernel, root)
    doomed = {
        template("kernel goes", gone, root): "its kernel is not there any more",
        template("root is gone", kernel, "0" * 64): "its root is not there any more",
        make(cache, "template", "no record", 2): "its record can't be read",
        template("old", kernel, root, 50): "not used for 50 days",
    }
    found = {item.path.name: item.why for item in plan_pruning(cache, 30) if item.kind == "template"}
    assert found == doomed
    assert good not in found


def test_packages_and_other_formats(cache: Cache) -> None:
    """Downloaded packages go by age, what other versions made goes at once, what a torn clean left goes later."""
    debs = cache.root / "v1/apt/debs"
    debs.mkdir(parents=True)
    for name, days in (("old.deb", 31), ("new.deb", 1)):
        (debs / name).write_bytes(bytes(4096))
        os.utime(debs / name, (time.time() - days * DAY,) * 2)
    for name, days in (("v0", 0), ("v7", 0), (".removed.a", 1), (".removed.b", 0)):
        (cache.root / name).mkdir()
        os.utime(cache.root / name, (time.time() - days * DAY,) * 2)
    assert [(item.kind, item.path.name) for item in plan_pruning(cache, 30)] == [
        ("format", "v0"),
        ("format", "v7"),
        ("left over", ".removed.a"),
        ("package", "old.deb"),
    ]


def test_removal(cache: Cache) -> None:
    """What goes is gone, with the notes that led to it; what stays is whole."""
    old, young = make(cache, "site", "old", 31), make(cache, "site", "young", 1)
    cache.remember("site", "a" * 64, old)
    cache.remember("site", "b" * 64, young)
    doomed = plan_pruning(cache, 30)
    (row,) = summarize(doomed)
    assert (row["kind"], row["number"]) == ("site", 1)
    assert int(str(row["megabytes"]).partition(".")[0]) == 0
    remove(cache.root, doomed)
    forget_lost_choices(cache)
    assert not cache.path("site", old).exists()
    assert cache.find("site", young) is not None
    assert (cache.recall("site", "a" * 64), cache.recall("site", "b" * 64)) == (None, young)
    assert [path.name for path in cache.root.iterdir()] == ["v1"]


def test_nothing_there(tmp_path: Path) -> None:
    """A cache that was never made has nothing to remove, and stays absent."""
    assert plan_pruning(Cache(tmp_path / "none"), 0) == []
    assert not (tmp_path / "none").exists()
