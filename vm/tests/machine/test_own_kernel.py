"""A kernel and a root of the user's own, booted; and those that can't be, named."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from kernelproof.vm import own_kernel
from kernelproof.vm.accelerator import probe
from kernelproof.vm.cache import Cache
from kernelproof.vm.cpio import Member, read_newc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel_select import read_rows
from kernelproof.vm.process import Spawner
from kernelproof.vm.provision import provision
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_unpack import lay_down, read_packages
from kernelproof.vm.template import Template, read_machine_type
from kernelproof.vm.wishes import Wishes, read_wishes

KERNEL = "6.12"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution's kernel as its packages would install it."""
    folder = tmp_path_factory.mktemp("installed")
    (group,) = read_rows().row(KERNEL).suites
    made = provision(KERNEL, (), cache=Cache(), progress=SilentProgress(), project=None).kernel
    with Provisioning(Cache(), SilentProgress()) as context:
        apt = context.apt()
        debs = apt.fetch(apt.locate(apt.update(group), [f"{made.package}={made.build}"]))
    lay_down(read_packages(debs, lambda path: path.startswith(("boot/", "usr/lib/modules/"))).members(), folder)
    return folder


@pytest.fixture(scope="module")
def image(installed: Path) -> Path:
    return next(installed.glob("boot/vmlinuz-*"))


@pytest.fixture(scope="module")
def root_members() -> list[Member]:
    """The guest's root as it is made of packages."""
    made = provision(KERNEL, (), cache=Cache(), progress=SilentProgress(), project=None)
    return list(read_newc(made.root.cpio.read_bytes()))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache of a test's own in which is what was fetched before: what is made here nobody needs again."""
    kinds = tmp_path / "cache/v1"
    kinds.mkdir(parents=True)
    for kind in ("apt", "tools", "site", "choices"):
        (kinds / kind).symlink_to(Cache().folder(kind))
    (kinds / "root").mkdir()
    for entry in Cache().folder("root").glob("[0-9a-f]*"):
        (kinds / "root" / entry.name).symlink_to(entry)
    return Cache(tmp_path / "cache")


def make_tar(place: Path, members: list[Member]) -> Path:
    with tarfile.open(place, "w") as archive:
        for member in members:
            entry = tarfile.TarInfo(member.path)
            entry.mode, entry.uid, entry.gid = member.mode & 0o7777, member.uid, member.gid
            kinds = {0o040000: tarfile.DIRTYPE, 0o120000: tarfile.SYMTYPE, 0o020000: tarfile.CHRTYPE}
            entry.type = kinds.get(member.mode & 0o170000, tarfile.REGTYPE)
            entry.linkname = member.data.decode() if entry.issym() else ""
            entry.size = len(member.data) if entry.isreg() else 0
            archive.addfile(entry, BytesIO(member.data) if entry.isreg() else None)
    return place


def boot(wishes: Wishes, cache: Cache) -> Template:
    assert wishes.kernel is not None
    return Template(wishes.kernel.name, time="real", cache=cache, wishes=wishes)  # it boots with half of the work


def test_own_kernel_and_root(
    image: Path, installed: Path, root_members: list[Member], cache: Cache, tmp_path: Path
) -> None:
    """A machine runs on an image, modules and a root that the user has, with more words for the kernel."""
    root = make_tar(tmp_path / "root.tar", [*root_members, Member("etc/mine", 0o100644, b"mine\n")])
    wishes = read_wishes(image=image, modules=installed, guest_root=root, append=["own.word=1"])
    with boot(wishes, cache) as template, template.clone() as machine:
        release = machine.run(["uname", "-r"]).stdout.strip()
        assert image.name == f"vmlinuz-{release}"
        assert machine.run(["cat", "/etc/mine"]).stdout == "mine\n"
        assert "own.word=1" in machine.run(["cat", "/proc/cmdline"]).stdout
        assert machine.run(["modprobe", "vxlan"]).returncode == 0
        assert machine.run(["ls", "/boot"]).stdout == f"config-{release}\n"
        kernel = template.facts["kernel"]
    assert isinstance(kernel, dict)
    assert (kernel["name"], kernel["series"]) == (f"image-{release}", "6.12")
    assert (kernel["package"], kernel["release"]) == (None, release)


def test_image_without_pvh(image: Path, installed: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that has no PVH entry is booted compressed, and gets as far as its init."""
    monkeypatch.setattr(own_kernel, "_boots_by_pvh", lambda vmlinux: False)
    wishes = read_wishes(image=image, modules=installed)
    assert wishes.kernel is not None
    made = provision(wishes.kernel.name, (), cache=cache, progress=SilentProgress(), project=None, wishes=wishes)
    assert made.kernel.vmlinux.read_bytes() == image.read_bytes()
    assert probe(made, read_machine_type(made.qemu), "qemu64", Spawner(), "tcg", 300.0)


def test_kernel_without_a_way_to_the_host(image: Path, installed: Path, cache: Cache) -> None:
    """A kernel without virtio console is named, with the options to set, and not waited for."""
    wishes = read_wishes(image=image, modules=installed, append=["initcall_blacklist=virtio_console_init"])
    with boot(wishes, cache) as template, pytest.raises(ProvisionError, match="has no virtio console") as caught:
        template.clone()
    assert "set CONFIG_VIRTIO_PCI=y and CONFIG_VIRTIO_CONSOLE=y" in caught.value.remedy


def test_root_that_does_not_start(
    image: Path, installed: Path, root_members: list[Member], cache: Cache, tmp_path: Path
) -> None:
    """A root whose Python does not run is named, with the end of its console."""
    broken = [member for member in root_members if "/libc.so.6" not in member.path]
    root = make_tar(tmp_path / "root.tar", broken)
    wishes = read_wishes(image=image, modules=installed, guest_root=root)
    with boot(wishes, cache) as template, pytest.raises(ProvisionError, match="its Python does not start") as caught:
        template.clone()
    # 127, the dynamic loader's status. Its text may still be in the serial driver when the kernel panics.
    assert "Attempted to kill init! exitcode=0x00007f00" in caught.value.detail
