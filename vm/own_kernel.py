"""Makes a kernel of the user's own ready to boot: an image, or a tree that it was built in; and its modules.

An image with a PVH entry is booted uncompressed, as a distribution's. One without is booted as it is, by QEMU's
`-kernel`; so is one that can't be uncompressed here. How it was built is read from the tree, from `config-RELEASE`
beside it, or from the image itself (CONFIG_IKCONFIG); else it is not known, and tests find out by use.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kernelproof.vm.cache import digest_file
from kernelproof.vm.cpio import Member, make_directory, make_file, write_newc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel import decompress
from kernelproof.vm.kernel_image import Banner, find_config, find_payload, has_pvh_entry, is_elf, read_banner
from kernelproof.vm.kernel_modules import MODULES, index_modules, plan_modules, strip_modules
from kernelproof.vm.kernel_options import describe_missing, judge_options, parse_config, read_wanted
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_tools import Tools
from kernelproof.vm.provision_types import Kernel
from kernelproof.vm.provision_unpack import Tree

RECIPE = 1  # raised when what is made of the same files changes
PREFIX = "image-"  # of the names that own kernels are filed under
_BUILT = "arch/x86/boot/bzImage"
_COMPRESSIONS = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")


@dataclass(frozen=True, slots=True)
class OwnKernel:
    """Where the parts of a kernel of one's own lie.

    Args:
        image: A bzImage, or an uncompressed ELF image with a PVH entry.
        modules: The folder of its modules: `…/lib/modules/RELEASE`, or the tree it was built in; None if it has none.
        built: Whether `modules` is the tree it was built in.
        config: The configuration it was built with, None if there is no file.
        banner: What the image says it is.
    """

    image: Path
    modules: Path | None
    built: bool
    config: Path | None
    banner: Banner

    @property
    def name(self) -> str:
        """What results are filed under, and `--kernel` may say: `image-RELEASE`."""
        return PREFIX + self.banner.release


def find_own_kernel(image: Path | None, modules: Path | None, tree: Path | None) -> OwnKernel:
    """The kernel that the options name.

    Args:
        image: `--kernel-image`.
        modules: `--modules`: the folder of the modules, one above it, or one above `lib/modules`.
        tree: `--kernel-tree`: where `make` was run.

    Raises:
        ProvisionError: nothing or too much is named, a file is not there, is no kernel, or the modules are another's.
    """
    if (image is None) == (tree is None):
        raise ProvisionError("choose kernel", "--kernel-image, --kernel-tree", "name one of them", "and not both")
    if tree is not None:
        image = tree / _BUILT
    assert image is not None
    banner = _read_own_banner(image, tree)
    places = [tree / ".config"] if tree is not None else [image.with_name(f"config-{banner.release}")]
    found = None if modules is None else find_modules(modules, banner.release)
    built = found is None and tree is not None and (tree / "modules.order").is_file()
    if built:
        found = tree
    if found is not None:
        places.append(found / "config")
    config = next((place.absolute() for place in places if place.is_file()), None)
    return OwnKernel(image.absolute(), None if found is None else found.absolute(), built, config, banner)


def _read_own_banner(image: Path, tree: Path | None) -> Banner:
    try:
        data = image.read_bytes()
    except OSError as error:
        remedy = "run `make bzImage` in that tree" if tree is not None else "name the file that your build made"
        raise ProvisionError("read kernel", str(image), error.strerror or str(error), remedy) from error
    try:
        return read_banner(data)
    except ValueError as error:
        remedy = "name a bzImage for x86-64 (arch/x86/boot/bzImage, vmlinuz-RELEASE), or a vmlinux"
        raise ProvisionError("read kernel", str(image), f"no kernel that can be booted: {error}", remedy) from error


def find_modules(folder: Path, release: str) -> Path:
    """The modules of a release below a folder that the user named.

    Raises:
        ProvisionError: there are none, or only those of other releases.
    """
    if not folder.is_dir():
        raise ProvisionError("find modules", str(folder), "no such folder", "name the folder they were installed in")
    above = (folder / "lib/modules", folder / "usr/lib/modules", folder)
    if folder.name == release and _has_modules(folder):
        return folder
    for place in above:
        if _has_modules(place / release):
            return place / release
    others = sorted({path.name for place in above if place.is_dir() for path in place.iterdir() if _has_modules(path)})
    if _has_modules(folder):
        others.append(folder.name)
    seen = f"modules of {', '.join(others)}" if others else "no modules in it"
    remedy = f"install those of {release}: `make modules_install INSTALL_MOD_PATH=FOLDER`, then --modules FOLDER"
    raise ProvisionError("find modules", str(folder), f"{seen}, the image is {release}", remedy)


def _has_modules(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("modules.order", "modules.dep", "kernel"))


def read_config(own: OwnKernel, vmlinux: bytes | None) -> bytes | None:
    """How it was built, from the best source there is; None if nothing says it.

    Raises:
        ProvisionError: the file can't be read.
    """
    if own.config is None:
        return None if vmlinux is None else find_config(vmlinux)
    try:
        return own.config.read_bytes()
    except OSError as error:
        raise ProvisionError("read kernel's configuration", str(own.config), str(error), "mend that file") from error


def read_vmlinux(own: OwnKernel, tools: Tools) -> bytes | None:
    """The uncompressed image; None if it can't be had here, which stops nothing.

    Raises:
        ProvisionError: it can't be read.
    """
    try:
        image = own.image.read_bytes()
    except OSError as error:
        raise ProvisionError("read kernel", str(own.image), str(error), "name a file that can be read") from error
    if is_elf(image):
        return image
    try:
        payload = find_payload(image)
        vmlinux = decompress(payload, tools, own.banner.release)
    except (ValueError, ProvisionError):
        return None
    return vmlinux if is_elf(vmlinux) else None


def check_own_kernel(own: OwnKernel, config: bytes | None) -> None:
    """Refuse a kernel of which it is known that no machine can run it.

    Raises:
        ProvisionError: names every option that is missing, and the lines to set.
    """
    if config is None:
        return
    options = parse_config(config.decode("utf-8", "replace"))
    problems, lines = describe_missing(judge_options(options, list_modules(own), read_wanted()))
    if problems:
        raise ProvisionError("use kernel", str(own.image), problems, f"set {lines}; `kernelproof doctor` lists all")


def list_modules(own: OwnKernel) -> tuple[str, ...] | None:
    """The names of its modules; None if it comes without."""
    if own.modules is None:
        return None
    return tuple(path.name.partition(".")[0] for path in _find_files(own.modules, own.built) if _is_module(path))


def provide_own_kernel(context: Provisioning, tools: Tools, own: OwnKernel) -> Kernel:
    """The kernel, from the cache or made.

    Raises:
        ProvisionError: it can't be read, lacks what machines need, or a module of it is damaged.
    """
    vmlinux = read_vmlinux(own, tools)
    pvh = vmlinux is not None and _boots_by_pvh(vmlinux)
    if is_elf_file(own.image) and not pvh:
        remedy = "set CONFIG_PVH=y, or name the bzImage (arch/x86/boot/bzImage)"
        raise ProvisionError("use kernel", str(own.image), "an uncompressed image without a PVH entry", remedy)
    config = read_config(own, vmlinux)
    check_own_kernel(own, config)
    if not pvh:
        context.progress.note(f"{own.name} has no PVH entry (CONFIG_PVH): it is booted compressed, which takes longer")
    if config is None:
        context.progress.note(f"how {own.name} was built is not known: tests find out by use (CONFIG_IKCONFIG tells)")
    members = [] if own.modules is None else list(_read_modules(own.modules, own.built, own.banner.release))
    record = {
        "image": digest_file(own.image),
        "boots": "vmlinux" if pvh else "bzImage",
        "modules": sha256(b"".join(_describe(member) for member in members)).hexdigest(),
        "config": None if config is None else sha256(config).hexdigest(),
        "recipe": RECIPE,
        "tools": tools.digest,
    }

    def build(work: Path) -> None:
        context.progress.step(f"make {own.name} ready")
        (work / "kernel").write_bytes(vmlinux if pvh and vmlinux is not None else own.image.read_bytes())
        _build(work, own.banner.release, members, config, tools)

    digest = context.build("kernel", record, build)
    return _describe_kernel(own, context.cache.path("kernel", digest), digest, config)


def _boots_by_pvh(vmlinux: bytes) -> bool:
    try:
        return has_pvh_entry(vmlinux)
    except ValueError:  # torn: QEMU would not take it either
        return False


def is_elf_file(path: Path) -> bool:
    """Whether a file is an uncompressed image.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return is_elf(file.read(64))


def _describe_kernel(own: OwnKernel, folder: Path, digest: str, config: bytes | None) -> Kernel:
    series = re.match(r"[0-9]+\.[0-9]+", own.banner.release)
    assert series is not None  # read_banner takes nothing else
    return Kernel(
        series=series[0],
        release=own.banner.release,
        package="",
        build=own.banner.build,
        vmlinux=folder / "kernel",
        config=None if config is None else folder / "config",
        modules_cpio=folder / "modules.cpio",
        digest=digest,
        config_digest="" if config is None else sha256(config).hexdigest(),
        name=own.name,
    )


def _build(work: Path, release: str, members: list[Member], config: bytes | None, tools: Tools) -> None:
    tree = Tree()
    tree.add(make_directory(f"{MODULES}/{release}"))
    for member in members:
        tree.add(member)
    try:
        modules = plan_modules(tree, release, tools, work)
    except ValueError as error:
        raise ProvisionError("read modules", release, str(error), "install the modules anew") from error
    strip_modules(modules, work)
    index_modules(modules, tools, release, work)
    if config is not None:
        (work / "config").write_bytes(config)
        modules.add(make_file(f"boot/config-{release}", config))
    with (work / "modules.cpio").open("wb") as file:
        write_newc(file, modules.members())
    (work / "facts.json").write_text(json.dumps({"own": release}), "utf-8")


def _describe(member: Member) -> bytes:
    return f"{member.path} {sha256(member.data).hexdigest()}\n".encode("utf-8", "surrogateescape")


def _is_module(path: Path) -> bool:
    return path.name.endswith(_COMPRESSIONS)


def _find_files(folder: Path, built: bool) -> Iterator[Path]:
    # Of an installed folder all files; of a tree what `make modules_install` would take.
    if not built:
        for place, _, names in os.walk(folder):
            yield from (Path(place, name) for name in sorted(names))
        return
    for line in (folder / "modules.order").read_text("utf-8").splitlines():
        # Before 5.4 each line began with the place it is installed at: `kernel/`. Later ones name the object file.
        path = (folder / line).with_suffix(".ko")
        yield path if path.exists() else (folder / line.removeprefix("kernel/")).with_suffix(".ko")
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        if (folder / name).is_file():
            yield folder / name


def _read_modules(folder: Path, built: bool, release: str) -> Iterator[Member]:
    for path in _find_files(folder, built):
        below = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (_is_module(path) or below.startswith("modules.")):
            continue
        inside = f"kernel/{below}" if built and _is_module(path) else below
        try:
            yield make_file(f"{MODULES}/{release}/{inside}", path.read_bytes())
        except OSError as error:
            remedy = "run `make modules` in that tree" if error.errno == errno.ENOENT else "mend that file"
            raise ProvisionError("read modules", str(path), error.strerror or str(error), remedy) from error
