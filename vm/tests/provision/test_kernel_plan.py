"""The packages of a kernel are found by what they depend on and by what they hold."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Sequence
from pathlib import Path

import pytest

from kernelproof.vm.apt_sources import parse_paragraphs
from kernelproof.vm.cpio import make_directory, make_file, make_link
from kernelproof.vm.kernel import (
    find_config,
    find_image,
    find_release,
    parse_own_parts,
    plan_candidates,
)
from kernelproof.vm.kernel_modules import plan_modules
from kernelproof.vm.provision_unpack import Tree
from kernelproof.vm.tests.provision.recorded import read_recorded
from kernelproof.vm.tests.provision.stand_ins import TOOLS


class Archive:
    """An archive of the packages of recorded paragraphs."""

    def __init__(self, name: str) -> None:
        self.paragraphs = [fields for _, fields in parse_paragraphs(read_recorded(name), name)]

    def show(self, names: Sequence[str]) -> list[dict[str, str]]:
        """The paragraphs of packages by name."""
        return [fields for fields in self.paragraphs if fields["package"] in names]


def names(series: str) -> list[str]:
    """Recorded names of packages."""
    return read_recorded(f"pkgnames-{series}.txt").split()


def test_parts_of_a_build_are_those_of_its_own_version() -> None:
    """A dependency at exactly the package's own version is a part of the same build; others are not."""
    image = Archive("show-7.3.txt").paragraphs[0]
    assert sorted(parse_own_parts(image, "7.3.4+deb13-cloud-amd64")) == [
        "linux-base-7.3.4+deb13-cloud-amd64",
        "linux-binary-7.3.4+deb13-cloud-amd64",
        "linux-modules-7.3.4+deb13-cloud-amd64",
    ]


def test_split_kernel_is_followed_to_all_its_parts() -> None:
    """Since 6.19 the image package is empty: the kernel, the modules and the configuration are found beside it."""
    (candidate,) = plan_candidates(names("7.3"), Archive("show-7.3.txt").show, "7.3", "cloud-amd64")
    assert candidate.package == "linux-image-7.3.4+deb13-cloud-amd64"
    assert sorted(candidate.parts) == [
        "linux-base-7.3.4+deb13-cloud-amd64",
        "linux-binary-7.3.4+deb13-cloud-amd64",
        "linux-image-7.3.4+deb13-cloud-amd64",
        "linux-modules-7.3.4+deb13-cloud-amd64",
    ]
    assert candidate.missing == ()


def test_kernel_of_ubuntu_is_followed_by_its_release() -> None:
    """Where parts are not asked for by version they bear the release; what may be beside is taken if there."""
    also = ("linux-modules-extra-{release}",)
    show = Archive("show-ubuntu-6.8.txt").show
    found = plan_candidates(names("ubuntu-6.8"), show, "6.8", "generic", also)
    assert [(item.version, item.parts, item.missing) for item in found] == [
        ("6.8.0-87.88", tuple(f"linux-{kind}-6.8.0-87-generic" for kind in ("image", "modules", "modules-extra")), ()),
        ("6.8.0-31.31", tuple(f"linux-{kind}-6.8.0-31-generic" for kind in ("image", "modules")), ()),
        ("6.8.0-88.89", ("linux-image-6.8.0-88-generic",), ("linux-modules-6.8.0-88-generic",)),
    ]


def test_part_that_is_gone_is_named() -> None:
    """An image whose parts the archive dropped is a candidate of last resort, newest first."""
    found = plan_candidates(names("6.18"), Archive("show-6.18.txt").show, "6.18", "cloud-amd64")
    assert [(item.package, item.missing) for item in found] == [
        ("linux-image-6.18.15+deb13-cloud-amd64", ("linux-base-6.18.15+deb13-cloud-amd64",)),
        ("linux-image-6.18.12+deb13-cloud-amd64", ("linux-base-6.18.12+deb13-cloud-amd64",)),
    ]
    (broken,) = plan_candidates(names("7.1"), Archive("show-7.1.txt").show, "7.1", "cloud-amd64")
    assert "linux-modules-7.1.13+deb13-cloud-amd64" in broken.missing


def test_whole_build_comes_before_a_newer_broken_one() -> None:
    """A build with all its parts is tried before a newer one without."""
    paragraphs = {
        "linux-image-7.9.2-cloud-amd64": {
            "version": "7.9.2-1",
            "depends": "linux-modules-7.9.2-cloud-amd64 (= 7.9.2-1)",
        },
        "linux-image-7.9.1-cloud-amd64": {"version": "7.9.1-1", "depends": "kmod, linux-base (>= 4)"},
    }

    def show(wanted: Sequence[str]) -> list[dict[str, str]]:
        return [{"package": name, **paragraphs[name]} for name in wanted if name in paragraphs]

    found = plan_candidates(paragraphs, show, "7.9", "cloud-amd64")
    assert [item.version for item in found] == ["7.9.1-1", "7.9.2-1"]


def test_other_flavours_and_series_are_no_candidates() -> None:
    """Debug symbols, unsigned images, other flavours and 6.12 for 6.1 are left out."""
    others = [
        "linux-image-6.1.0-56-cloud-amd64-dbg",
        "linux-image-6.1.0-56-cloud-amd64-unsigned",
        "linux-image-6.1.0-56-rt-amd64",
        "linux-image-6.12.117+deb12-cloud-amd64",
        "linux-image-6.1-cloud-amd64",
    ]
    good = "linux-image-6.1.0-56-cloud-amd64"

    def show(wanted: Sequence[str]) -> list[dict[str, str]]:
        return [{"package": name, "version": "6.1.192-2"} for name in wanted]

    found = plan_candidates([*others, good], show, "6.1", "cloud-amd64")
    assert [item.package for item in found] == [good]


def make_tree(*, split: bool, release: str = "7.3.4") -> Tree:
    """What the packages of a kernel hold, in the old and the new layout."""
    tree = Tree()
    modules = f"usr/lib/modules/{release}" if split else f"lib/modules/{release}"
    tree.add(make_directory(f"{modules}/kernel"))
    tree.add(
        make_file(
            f"{modules}/kernel/a.ko.xz" if split else f"{modules}/kernel/a.ko", lzma.compress(b"A") if split else b"A"
        )
    )
    tree.add(make_file(f"{modules}/vmlinuz" if split else f"boot/vmlinuz-{release}", b"image"))
    tree.add(make_file(f"{modules}/config" if split else f"boot/config-{release}", b"config"))
    tree.add(make_file(f"{modules}/modules.order", b"order"))
    tree.add(make_link(f"{modules}/build", "/usr/src/linux"))
    return tree


@pytest.mark.parametrize("split", [False, True])
def test_both_layouts_are_understood(split: bool, tmp_path: Path) -> None:
    """Image, configuration and modules are found in /boot and /lib, or all in /usr/lib/modules."""
    tree = make_tree(split=split)
    assert (find_release(tree), find_image(tree).data, find_config(tree).data) == ("7.3.4", b"image", b"config")
    modules = plan_modules(tree, "7.3.4", TOOLS, tmp_path)
    assert [member.path for member in modules.members() if member.data] == [
        "usr/lib/modules/7.3.4/kernel/a.ko",
        "usr/lib/modules/7.3.4/modules.order",
    ]
    assert modules["usr/lib/modules/7.3.4/kernel/a.ko"].data == b"A"


@pytest.mark.parametrize(
    ("lost", "words"),
    [("vmlinuz", "no kernel image"), ("config", "no configuration"), ("kernel", "modules of 0 releases")],
)
def test_what_is_missing_is_named(lost: str, words: str) -> None:
    """A package that lacks a part says which."""
    tree = make_tree(split=True)
    tree.remove(lambda path: f"/{lost}" in path)
    with pytest.raises(ValueError, match=words):
        find_release(tree), find_image(tree), find_config(tree)


def test_every_compression_of_modules(tmp_path: Path) -> None:
    """Modules come out uncompressed, whatever the distribution packs them with."""
    tree = make_tree(split=True)
    folder = "usr/lib/modules/7.3.4/kernel/deep"
    tree.add(make_file(f"{folder}/b.ko.zst", b"zstd.B"))
    tree.add(make_file(f"{folder}/c.ko.gz", gzip.compress(b"C")))
    tree.add(make_file(f"{folder}/d.ko", b"D"))
    modules = plan_modules(tree, "7.3.4", TOOLS, tmp_path)
    found = {member.path.rpartition("/")[2]: member.data for member in modules.members() if ".ko" in member.path}
    assert found == {"a.ko": b"A", "b.ko": b"B", "c.ko": b"C", "d.ko": b"D"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "data"), [("b.ko.zst", b"torn"), ("b.ko.gz", b"torn"), ("b.ko.gz", b"\x1f\x8b\x08")])
def test_torn_module_of_each_compression(name: str, data: bytes, tmp_path: Path) -> None:
    """A module that can't be uncompressed is named."""
    tree = make_tree(split=True)
    tree.add(make_file(f"usr/lib/modules/7.3.4/kernel/{name}", data))
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        plan_modules(tree, "7.3.4", TOOLS, tmp_path)


def test_torn_module_is_told(tmp_path: Path) -> None:
    """A module that can't be decompressed is named."""
    tree = make_tree(split=True)
    tree.add(make_file("usr/lib/modules/7.3.4/kernel/b.ko.xz", b"\xfd7zXZ\0torn"))
    with pytest.raises(ValueError, match=r"b\.ko\.xz"):
        plan_modules(tree, "7.3.4", TOOLS, tmp_path)
