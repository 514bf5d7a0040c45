"""Roots and kernels are made from packages of an archive, once, and anew whenever something they depend on changes."""

from __future__ import annotations

import gzip
import json
import lzma
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kernelproof.vm.apt import AptSettings
from kernelproof.vm.apt_sources import Mirrors
from kernelproof.vm.cache import Cache
from kernelproof.vm.cpio import make_file
from kernelproof.vm.distribution import read_distribution
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel import provide_kernel
from kernelproof.vm.kernel_select import KernelRow, KernelTable
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_types import Kernel
from kernelproof.vm.provision_unpack import Tree
from kernelproof.vm.root import PACKAGES, complete, is_wanted, provide_root
from kernelproof.vm.tests.provision.archive import Archive
from kernelproof.vm.tests.provision.images import make_kernel
from kernelproof.vm.tests.provision.stand_ins import TOOLS
from kernelproof.vm.tests.provision.test_cpio import read_newc

TABLE = KernelTable("cloud-amd64", "9.1", (), (KernelRow("9.1", (("new",), ("old",)), "made for a test"),))
RELEASE = "9.1.7-cloud-amd64"
IMAGE = f"linux-image-{RELEASE}"


@pytest.fixture
def open_context(tmp_path: Path, archive: Archive, progress: SilentProgress) -> Callable[[], Provisioning]:
    """Opens a provisioning whose only mirror is the archive."""
    mirrors = Mirrors((archive.uri,), (archive.uri,))

    def read_settings() -> AptSettings:
        return AptSettings(mirrors, archive.signer.keyring)

    return lambda: Provisioning(Cache(tmp_path / "cache"), progress, read_settings)


Open = Callable[[], Provisioning]


def add_kernel(archive: Archive, suite: str, version: str = "9.1.7-1", *, modules: bool = True) -> None:
    """A kernel in the layout of today: an image package and one of modules, each with a part."""
    release = f"{version.split('-')[0]}-cloud-amd64"
    image, parts = f"linux-image-{release}", f"linux-modules-{release}"
    archive.add(
        suite,
        image,
        version,
        depends=f"kmod, {parts} (= {version})",
        files={f"boot/vmlinuz-{release}": make_kernel(), f"boot/config-{release}": b"CONFIG_X=y\n"},
    )
    if modules:
        files = {f"usr/lib/modules/{release}/kernel/a.ko.xz": lzma.compress(b"A")}
        archive.add(suite, parts, version, files=files)


def get_kernel(context: Provisioning) -> Kernel:
    """The kernel of the table's only row."""
    with context:
        return provide_kernel(context, TOOLS, TABLE, "9.1")


def test_kernel_is_made(archive: Archive, open_context: Open) -> None:
    """Image, configuration and modules come out of its packages, and say what they are."""
    add_kernel(archive, "new")
    archive.publish("new")
    kernel = get_kernel(open_context())
    assert (kernel.series, kernel.release, kernel.package, kernel.build) == ("9.1", RELEASE, IMAGE, "9.1.7-1")
    assert kernel.vmlinux.read_bytes().startswith(b"\x7fELF")
    assert kernel.config is not None
    assert kernel.config.read_bytes() == b"CONFIG_X=y\n"
    members = {str(member["name"]): member["data"] for member in read_newc(kernel.modules_cpio.read_bytes())}
    assert members[f"usr/lib/modules/{RELEASE}/kernel/a.ko"] == b"A"
    assert members[f"usr/lib/modules/{RELEASE}/modules.dep"] == b"stand-in\n"
    assert members[f"boot/config-{RELEASE}"] == b"CONFIG_X=y\n"
    assert sorted(path.name for path in kernel.vmlinux.parent.iterdir() if path.name[0] != ".") == [
        *("config", "facts.json", "modules.cpio", "vmlinux")
    ]


def test_kernel_is_made_once(archive: Archive, open_context: Open) -> None:
    """The second time nothing is asked of the archive, which may be gone."""
    add_kernel(archive, "new")
    release = archive.publish("new")
    kernel = get_kernel(open_context())
    release.unlink()
    assert get_kernel(open_context()) == kernel


def test_newest_whole_build_is_taken(archive: Archive, open_context: Open, progress: SilentProgress) -> None:
    """A newer build whose modules are gone gives way to an older whole one."""
    add_kernel(archive, "new", "9.1.10-1", modules=False)
    add_kernel(archive, "new", "9.1.9-1")
    add_kernel(archive, "new", "9.1.7-1")
    archive.publish("new")
    assert get_kernel(open_context()).build == "9.1.9-1"


def test_next_group_of_suites_is_tried(archive: Archive, open_context: Open, progress: SilentProgress) -> None:
    """When the first suites are gone or carry nothing whole, the next are asked, and it is told why."""
    add_kernel(archive, "old")
    archive.publish("old")
    assert get_kernel(open_context()).build == "9.1.7-1"
    assert any("new" in note for note in progress.notes)


def test_kernel_without_modules_is_left_out(archive: Archive, open_context: Open, progress: SilentProgress) -> None:
    """A build of which no package holds modules is told and left out; with no other there is an error."""
    add_kernel(archive, "new", modules=False)
    archive.publish("new")
    archive.publish("old")
    with pytest.raises(ProvisionError, match=r"find kernel: 9\.1: .*modules of 0 releases"):
        get_kernel(open_context())
    assert any("left out" in note for note in progress.notes)


def test_kernel_that_no_suite_has_is_told(archive: Archive, open_context: Open) -> None:
    """The error names the suites that were looked through."""
    archive.publish("new")
    archive.publish("old")
    with pytest.raises(ProvisionError, match="no package for cloud-amd64 in new old"):
        get_kernel(open_context())


def test_every_input_of_a_kernel_is_in_its_key(archive: Archive, open_context: Open, tmp_path: Path) -> None:
    """Another build, other packages of the same version, and other tools each make another entry."""
    add_kernel(archive, "new")
    archive.publish("new")
    digests = {get_kernel(open_context()).digest}
    with open_context() as context:
        digests.add(provide_kernel(context, replace(TOOLS, digest="other"), TABLE, "9.1").digest)
    archive.add("extra", "unrelated")
    again = Archive(archive.root, archive.signer)
    again.add(
        "new",
        IMAGE,
        "9.1.7-1",
        files={
            f"boot/vmlinuz-{RELEASE}": make_kernel(),
            f"boot/config-{RELEASE}": b"N=y\n",
            f"usr/lib/modules/{RELEASE}/kernel/a.ko": b"B",
        },
    )
    again.publish("new")
    Cache(tmp_path / "cache").forget_choices()
    digests.add(get_kernel(open_context()).digest)
    assert len(digests) == 3


def add_root(archive: Archive, names: tuple[str, ...] = PACKAGES) -> None:
    """A package of each name, and the accounts of base-passwd."""
    for name in names:
        files = {f"usr/share/kernelproof/{name}": name.encode(), f"usr/share/doc/{name}/copyright": b"c"}
        if name == "base-passwd":
            files["usr/share/base-passwd/passwd.master"] = b"root:*:0:0:root:/root:/bin/bash\nbin:*:2:2:bin:/bin:/n\n"
            files["usr/share/base-passwd/group.master"] = b"root:*:0:\nshadow:*:42:\n"
        archive.add("trixie", name, files=files)
    for suite in read_distribution().guest:
        archive.publish(suite)


def test_root_is_made(archive: Archive, open_context: Open) -> None:
    """All packages are in it without their documents, with accounts and the directories of every system."""
    add_root(archive)
    with open_context() as context:
        root = provide_root(context, TOOLS, ())
    members = {str(member["name"]): member for member in read_newc(root.cpio.read_bytes())}
    assert all(f"usr/share/kernelproof/{name}" in members for name in PACKAGES)
    assert not any(name.startswith("usr/share/doc") for name in members)
    assert members["etc/passwd"]["data"] == b"root:x:0:0:root:/root:/bin/sh\nbin:x:2:2:bin:/bin:/n\n"
    assert members["etc/shadow"]["mode"] == stat.S_IFREG | 0o640
    assert members["etc/shadow"]["gid"] == 42
    assert members["."]["mode"] == stat.S_IFDIR | 0o755
    assert members["tmp"]["mode"] == stat.S_IFDIR | 0o1777
    assert members["dev/console"]["rdevmajor"] == 5
    assert root.python == "3.13"
    assert "base-passwd=1" in root.packages


def test_every_input_of_a_root_is_in_its_key(archive: Archive, open_context: Open) -> None:
    """Another list of packages and other tools each make another root; the same list in another order does not."""
    add_root(archive, (*PACKAGES, "one", "two"))
    with open_context() as context:
        plain = provide_root(context, TOOLS, ())
        digests = {
            plain.digest,
            provide_root(context, TOOLS, ("one",)).digest,
            provide_root(context, TOOLS, ("one", "two")).digest,
            provide_root(context, replace(TOOLS, digest="other"), ()).digest,
        }
        assert provide_root(context, TOOLS, ("two", "one", "dash")).digest in digests
        assert provide_root(context, TOOLS, ()) == plain
    assert len(digests) == 4


def test_package_of_a_profile_that_is_not_there_is_named(archive: Archive, open_context: Open) -> None:
    """A profile that names an unknown package is told which."""
    add_root(archive)
    with pytest.raises(ProvisionError, match="no-such-package"), open_context() as context:
        provide_root(context, TOOLS, ("no-such-package",))


def test_damaged_root_is_made_again(archive: Archive, open_context: Open) -> None:
    """A root with a flipped byte is noticed and made anew, to the same bytes."""
    add_root(archive)
    with open_context() as context:
        root = provide_root(context, TOOLS, ())
    good = root.cpio.read_bytes()
    root.cpio.write_bytes(good.replace(b"base-passwd", b"base-passwb"))
    with open_context() as context:
        assert provide_root(context, TOOLS, ()).cpio.read_bytes() == good


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("usr/bin/ip", True),
        ("usr/lib/python3.13/json/decoder.py", True),
        ("usr/lib/python3.13/test/support/__init__.py", False),
        ("usr/lib/python3/dist-packages/test/x.py", True),
        ("usr/share/doc", False),
        ("usr/share/documents", True),
        ("usr/share/locale/de/LC_MESSAGES/x.mo", False),
        ("var/lib/dpkg/info", False),
        ("var/lib", True),
    ],
)
def test_what_of_a_package_goes_into_the_guest(path: str, wanted: bool) -> None:
    """Documents, translations, package state and Python's own tests stay out."""
    assert is_wanted(path) is wanted


def test_what_packages_bring_is_not_replaced() -> None:
    """A file that a package has stays; accounts are made only from masters."""
    tree = Tree()
    tree.add(make_file("etc/hosts", b"mine"))
    tree.add(make_file("usr/bin/sh", b"shell"))
    complete(tree)
    assert tree["etc/hosts"].data == b"mine"
    assert tree["usr/bin/sh"].data == b"shell"
    assert "etc/passwd" not in tree


def test_facts_are_readable(archive: Archive, open_context: Open) -> None:
    """What an entry says of itself is JSON, for people too."""
    add_kernel(archive, "new")
    archive.publish("new")
    kernel = get_kernel(open_context())
    facts = json.loads((kernel.vmlinux.parent / "facts.json").read_text())
    assert facts["release"] == RELEASE
    assert facts["config_digest"] == kernel.config_digest
    assert gzip.decompress(gzip.compress(b"")) == b""
