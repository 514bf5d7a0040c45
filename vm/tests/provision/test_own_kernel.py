"""Kernels of the user's own: what is found, what is made of it, what is told when it can't be."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel_options import read_wanted
from kernelproof.vm.own_kernel import OwnKernel, find_own_kernel, provide_own_kernel
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_types import Kernel
from kernelproof.vm.tests.provision.images import make_bzimage, make_ikconfig, make_kernel, make_vmlinux
from kernelproof.vm.tests.provision.stand_ins import TOOLS
from kernelproof.vm.tests.provision.test_cpio import read_newc
from kernelproof.vm.wishes import Wishes, read_wishes

RELEASE = "9.1.7-own"
CONFIG = "".join(f"CONFIG_{row.option}=y\n" for row in read_wanted())


def get_kernel(own: OwnKernel, tmp_path: Path, progress: SilentProgress | None = None) -> Kernel:
    with Provisioning(Cache(tmp_path / "cache"), progress or SilentProgress()) as context:
        return provide_own_kernel(context, TOOLS, own)


def read_cpio(kernel: Kernel) -> dict[str, bytes]:
    members = read_newc(kernel.modules_cpio.read_bytes())
    return {str(item["name"]): bytes(item["data"]) for item in members if stat.S_ISREG(int(str(item["mode"])))}  # type: ignore[call-overload]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with its configuration beside it, as a distribution installs them."""
    folder = tmp_path / "boot"
    folder.mkdir()
    (folder / f"config-{RELEASE}").write_text(CONFIG)
    (folder / f"vmlinuz-{RELEASE}").write_bytes(make_kernel())
    return folder / f"vmlinuz-{RELEASE}"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """Modules as `make modules_install INSTALL_MOD_PATH=…` lays them."""
    folder = tmp_path / "installed/lib/modules" / RELEASE
    (folder / "kernel/drivers").mkdir(parents=True)
    (folder / "kernel/drivers/a.ko.gz").write_bytes(gzip.compress(b"A"))
    (folder / "modules.order").write_text("kernel/drivers/a.ko\n")
    (folder / "modules.dep.bin").write_bytes(b"theirs")
    (folder / "build").symlink_to("/usr/src/linux")
    return folder


def test_image_with_modules(image: Path, modules: Path, tmp_path: Path) -> None:
    """Image, modules and the configuration beside the image make a kernel that is filed under its release."""
    own = find_own_kernel(image, tmp_path / "installed", None)
    kernel = get_kernel(own, tmp_path)
    assert (kernel.name, kernel.series, kernel.release) == (f"image-{RELEASE}", "9.1", RELEASE)
    assert (kernel.package, kernel.build) == ("", "#3 SMP Tue Nov 24")
    assert kernel.vmlinux.read_bytes() == make_vmlinux()
    assert kernel.config is not None
    assert kernel.config.read_text() == CONFIG
    files = read_cpio(kernel)
    assert files[f"usr/lib/modules/{RELEASE}/kernel/drivers/a.ko"] == b"A"
    assert files[f"usr/lib/modules/{RELEASE}/modules.dep"] == b"stand-in\n"
    assert files[f"boot/config-{RELEASE}"] == CONFIG.encode()
    assert not any("build" in name for name in files)


@pytest.mark.parametrize("below", ["installed", "installed/lib/modules", f"installed/lib/modules/{RELEASE}"])
def test_where_modules_may_be(image: Path, modules: Path, tmp_path: Path, below: str) -> None:
    """The folder of the modules is found from each of those above it."""
    assert find_own_kernel(image, tmp_path / below, None).modules == modules


@pytest.mark.parametrize(
    "listed",
    ["kernel/fs/a.ko\nkernel/kernel/b.ko\n", "fs/a.ko\nkernel/b.ko\n", "fs/a.o\nkernel/b.o\n"],
    ids=["before 5.4", "before 6.3", "since"],
)
def test_tree(image: Path, tmp_path: Path, listed: str) -> None:
    """A tree gives image, configuration and the modules that it has built, in every form of their list."""
    tree = tmp_path / "linux"
    for name in ("arch/x86/boot", "fs", "kernel"):
        (tree / name).mkdir(parents=True)
    image.rename(tree / "arch/x86/boot/bzImage")
    (tree / ".config").write_text(CONFIG)
    (tree / "fs/a.ko").write_bytes(b"A")
    (tree / "kernel/b.ko").write_bytes(b"B")
    (tree / "fs/left-over.ko").write_bytes(b"of an older build")
    (tree / "modules.order").write_text(listed)
    (tree / "modules.builtin").write_text("kernel/fs/c.ko\n")
    kernel = get_kernel(find_own_kernel(None, None, tree), tmp_path)
    files = read_cpio(kernel)
    place = f"usr/lib/modules/{RELEASE}"
    assert {name.removeprefix(place): data for name, data in files.items() if name.endswith(".ko")} == {
        "/kernel/fs/a.ko": b"A",
        "/kernel/kernel/b.ko": b"B",
    }
    assert files[f"{place}/modules.builtin"] == b"kernel/fs/c.ko\n"


def test_configuration_in_the_image(tmp_path: Path) -> None:
    """Without a file the configuration is taken out of the image."""
    image = tmp_path / "bzImage"
    image.write_bytes(make_kernel(behind=make_ikconfig(CONFIG.encode())))
    kernel = get_kernel(find_own_kernel(image, None, None), tmp_path)
    assert kernel.config is not None
    assert kernel.config.read_text() == CONFIG


def test_unknown_configuration(tmp_path: Path) -> None:
    """Where nothing says how it was built that is told, and stops nothing."""
    image = tmp_path / "bzImage"
    image.write_bytes(make_kernel())
    progress = SilentProgress()
    kernel = get_kernel(find_own_kernel(image, None, None), tmp_path, progress)
    assert (kernel.config, kernel.config_digest) == (None, "")
    assert [note for note in progress.notes if "not known" in note]
    assert not any(name.startswith("boot/") for name in read_cpio(kernel))


@pytest.mark.parametrize(
    "data", [make_kernel(kind=17), make_bzimage(b"????unknown")], ids=["no PVH entry", "can't be uncompressed"]
)
def test_image_that_boots_compressed(tmp_path: Path, data: bytes) -> None:
    """What has no PVH entry, or can't be uncompressed here, is booted as it is, and that is told."""
    image = tmp_path / "bzImage"
    image.write_bytes(data)
    progress = SilentProgress()
    kernel = get_kernel(find_own_kernel(image, None, None), tmp_path, progress)
    assert kernel.vmlinux.read_bytes() == data
    assert [note for note in progress.notes if "booted compressed" in note]


def test_uncompressed_image_without_pvh(tmp_path: Path) -> None:
    """An ELF image without a PVH entry can't be booted: the bzImage is asked for."""
    image = tmp_path / "vmlinux"
    line = b"Linux version 9.1.7-own (me) (cc) #1 SMP\n"
    image.write_bytes(make_vmlinux(kind=17, behind=line))
    with pytest.raises(ProvisionError, match=r"without a PVH entry\n  remedy: set CONFIG_PVH=y, or name the bzImage"):
        get_kernel(find_own_kernel(image, None, None), tmp_path)
    image.write_bytes(make_vmlinux(behind=line))
    assert get_kernel(find_own_kernel(image, None, None), tmp_path).vmlinux.read_bytes() == image.read_bytes()


def test_missing_options(image: Path, tmp_path: Path) -> None:
    """A kernel that can't run in a machine is refused with every option that it lacks, and the lines to set."""
    text = CONFIG.replace("CONFIG_VIRTIO_CONSOLE=y", "# CONFIG_VIRTIO_CONSOLE is not set")
    (image.with_name(f"config-{RELEASE}")).write_text(text.replace("CONFIG_VIRTIO_PCI=y", "CONFIG_VIRTIO_PCI=m"))
    with pytest.raises(ProvisionError) as caught:
        get_kernel(find_own_kernel(image, None, None), tmp_path)
    assert "CONFIG_VIRTIO_CONSOLE: not set (the way to the host)" in caught.value.detail
    assert "CONFIG_VIRTIO_PCI: a module, and no modules are given" in caught.value.detail
    assert caught.value.remedy.startswith("set CONFIG_VIRTIO_PCI=y, or --modules with it, CONFIG_VIRTIO_CONSOLE=y; ")


def test_changes_make_another_kernel(image: Path, modules: Path, tmp_path: Path) -> None:
    """Another image, module or configuration is another kernel; the same files are the same."""

    def digest() -> str:
        return get_kernel(find_own_kernel(image, modules, None), tmp_path).digest

    digests = [digest(), digest()]
    assert digests[0] == digests[1]
    (modules / "kernel/drivers/a.ko.gz").write_bytes(gzip.compress(b"A2"))
    digests.append(digest())
    (modules / "kernel/drivers/b.ko").write_bytes(b"B")
    digests.append(digest())
    image.with_name(f"config-{RELEASE}").write_text(f"{CONFIG}CONFIG_MORE=y\n")
    digests.append(digest())
    image.write_bytes(make_kernel(behind=b"other"))
    digests.append(digest())
    assert len(set(digests)) == 5


def wrong_release(folder: Path) -> None:
    (folder / "installed/lib/modules" / RELEASE).rename(folder / "installed/lib/modules/9.2.0")


def no_modules(folder: Path) -> None:
    wrong_release(folder)
    (folder / "installed/lib/modules/9.2.0").rename(folder / "elsewhere")


def torn_module(folder: Path) -> None:
    (folder / "installed/lib/modules" / RELEASE / "kernel/drivers/a.ko.gz").write_bytes(b"torn")


def text_as_image(folder: Path) -> None:
    (folder / f"boot/vmlinuz-{RELEASE}").write_text("kernel")


def no_image(folder: Path) -> None:
    (folder / f"boot/vmlinuz-{RELEASE}").unlink()


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (wrong_release, r"modules of 9\.2\.0, the image is 9\.1\.7-own\n  remedy: install those of 9\.1\.7-own"),
        (no_modules, r"no modules in it, the image is 9\.1\.7-own"),
        (torn_module, r"a\.ko\.gz: .*\n  remedy: install the modules anew"),
        (text_as_image, r"no kernel that can be booted: no boot sector\n  remedy: name a bzImage"),
        (no_image, r"No such file or directory\n  remedy: name the file that your build made"),
    ],
)
def test_what_is_wrong(image: Path, modules: Path, tmp_path: Path, damage: Callable[[Path], None], seen: str) -> None:
    """Whatever does not fit is named, with what to do."""
    damage(tmp_path)
    with pytest.raises(ProvisionError, match=seen):
        get_kernel(find_own_kernel(image, tmp_path / "installed", None), tmp_path)


def test_tree_that_is_not_built(tmp_path: Path) -> None:
    """A tree without an image is told to be built; one that lacks a module of its list, too."""
    with pytest.raises(ProvisionError, match="remedy: run `make bzImage`"):
        find_own_kernel(None, None, tmp_path)
    (tmp_path / "arch/x86/boot").mkdir(parents=True)
    (tmp_path / "arch/x86/boot/bzImage").write_bytes(make_kernel())
    (tmp_path / "modules.order").write_text("fs/gone.o\n")
    with pytest.raises(ProvisionError, match=r"gone\.ko: No such file or directory\n  remedy: run `make modules`"):
        get_kernel(find_own_kernel(None, None, tmp_path), tmp_path)


def test_wishes(image: Path, modules: Path, tmp_path: Path) -> None:
    """Options become one record; without any there are no wishes."""
    assert read_wishes() == Wishes()
    wishes = read_wishes(image=image, modules=modules, append=["a=1 b", "c"], packages=["tcpdump"])
    assert wishes.kernel is not None
    assert (wishes.kernel.name, wishes.words, wishes.packages) == (f"image-{RELEASE}", ("a=1", "b", "c"), ("tcpdump",))


def test_wishes_that_do_not_go_together(image: Path, tmp_path: Path) -> None:
    """Two kernels, modules without a kernel, packages for a root of one's own: each is told."""
    with pytest.raises(ProvisionError, match="name one of them"):
        read_wishes(image=image, tree=tmp_path)
    with pytest.raises(ProvisionError, match="modules without their kernel"):
        read_wishes(modules=tmp_path)
    with pytest.raises(ProvisionError, match="--package x: is for Debian's own root"):
        read_wishes(guest_root=tmp_path, packages=["x"])
    with pytest.raises(ProvisionError, match=r"choose guest root: .*: not there"):
        read_wishes(guest_root=tmp_path / "gone")
