"""Makes a distribution's kernel ready to boot: its ELF image, its modules as an archive, its configuration.

Where things lie in its packages has changed and will change again: what is needed is found by what it is, in whatever
packages the image depends on at exactly its own version.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kernelproof.vm.apt import Apt
from kernelproof.vm.apt_output import version_key
from kernelproof.vm.cache import Cache, digest_file
from kernelproof.vm.cpio import Member, make_file, write_newc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel_image import Payload, check_vmlinux, find_payload
from kernelproof.vm.kernel_modules import MODULES, index_modules, plan_modules
from kernelproof.vm.kernel_select import KernelRow, KernelTable
from kernelproof.vm.provision_context import Entry, Provisioning
from kernelproof.vm.provision_tools import Tools, describe_packages
from kernelproof.vm.provision_types import Kernel
from kernelproof.vm.provision_unpack import Tree, read_packages

RECIPE = 2  # raised when what is made of the same packages changes
_DEPENDENCY = re.compile(r"(?P<name>[a-z0-9][a-z0-9.+-]*)\s*\(=\s*(?P<version>[^)\s]+)\s*\)")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A build of a kernel that the archive names.

    Args:
        package: The package of its image.
        version: Its Debian version.
        parts: `package` and the packages of the same build that it depends on, with all that they depend on.
        missing: Those of them that the archive does not carry.
    """

    package: str
    version: str
    parts: tuple[str, ...]
    missing: tuple[str, ...]


def parse_own_parts(fields: Mapping[str, str], release: str) -> tuple[str, ...]:
    """The packages that are parts of the same build, among those that a package depends on.

    Debian's are asked for at exactly the package's own version, Ubuntu's bear the kernel's release in their name.
    """
    text = ",".join((fields.get("pre-depends", ""), fields.get("depends", "")))
    found = [match["name"] for match in _DEPENDENCY.finditer(text) if match["version"] == fields["version"]]
    firsts = [item.partition("|")[0].partition("(")[0].strip() for item in text.split(",")]
    found += [name for name in firsts if name.endswith(f"-{release}")]
    return tuple(dict.fromkeys(found))


def plan_candidates(
    names: Iterable[str],
    show: Callable[[Sequence[str]], Iterable[Mapping[str, str]]],
    series: str,
    flavour: str,
    also: Sequence[str] = (),
) -> tuple[Candidate, ...]:
    """The builds of a series, whole ones first, of these the newest first.

    Args:
        names: Names of packages.
        show: Gives the paragraphs of packages by name.
        series: `6.12`.
        flavour: The end of the names wanted: `cloud-amd64`.
        also: Names of packages that are parts where they are there, with `{release}` in them.
    """
    pattern = re.compile(rf"linux-image-{re.escape(series)}[.~][.+~0-9a-z-]*-{re.escape(flavour)}")
    images = [name for name in names if pattern.fullmatch(name)]
    found = [
        _follow(image, show, also)
        for image in show(images)
        if version_key(image["version"])[:2] == version_key(series)[:2]
    ]
    return tuple(sorted(found, key=lambda item: (not item.missing, version_key(item.version)), reverse=True))


def _follow(
    image: Mapping[str, str], show: Callable[[Sequence[str]], Iterable[Mapping[str, str]]], also: Sequence[str]
) -> Candidate:
    version, release = image["version"], image["package"].removeprefix("linux-image-")
    parts, missing = [image["package"]], []
    waiting = list(parse_own_parts(image, release))
    while waiting:
        carried = {fields["package"]: fields for fields in show(waiting) if fields["version"] == version}
        missing += [name for name in waiting if name not in carried]
        parts += carried
        further = [name for fields in carried.values() for name in parse_own_parts(fields, release)]
        waiting = [name for name in dict.fromkeys(further) if name not in parts and name not in missing]
    extra = [name.format(release=release) for name in also]
    parts += [fields["package"] for fields in show(extra) if fields["version"] == version]
    return Candidate(image["package"], version, tuple(parts), tuple(missing))


def plan_kernel_request(table: KernelTable, row: KernelRow, tools: str) -> dict[str, object]:
    """What the kernel of a row is asked for by; `tools` is their digest."""
    return {
        "series": row.series,
        "suites": row.suites,
        "flavour": table.flavour,
        "recipe": RECIPE,
        "tools": tools,
        **({"also": table.also} if table.also else {}),
    }


def provide_kernel(context: Provisioning, tools: Tools, table: KernelTable, series: str) -> Kernel:
    """The kernel of a series, from the cache or made.

    Raises:
        ProvisionError: no suite that can be had carries a whole kernel of the series.
        LookupError: the table has no such series.
    """
    row = table.row(series)
    request = plan_kernel_request(table, row, tools.digest)
    entry = context.provide("kernel", request, lambda apt: _choose(context, apt, tools, row, table))
    return _read_kernel(entry)


def _choose(context: Provisioning, apt: Apt, tools: Tools, row: KernelRow, table: KernelTable) -> str:
    # The digest of the entry made from the first candidate that turns out to be whole.
    seen: list[str] = []
    for group in row.suites:
        try:
            suites = apt.update(group)
        except ProvisionError as error:
            seen.append(f"{error.subject}: {error.detail}")
            context.progress.note(f"kernel {row.series}: {seen[-1]}")
            continue
        names = apt.names(suites, f"linux-image-{row.series}")
        show = partial(apt.show, suites)
        for candidate in plan_candidates(names, show, row.series, table.flavour, table.also):
            try:
                return _make(context, apt, suites, tools, row, candidate)
            except ValueError as error:
                seen.append(f"{candidate.package} {candidate.version}: {error}")
                context.progress.note(f"kernel left out: {seen[-1]}")
    wanted = " ".join(suite for group in row.suites for suite in group)
    detail = "; ".join(seen[:4]) or f"no package for {table.flavour} in {wanted}"
    raise ProvisionError("find kernel", row.series, detail, "choose another one with --kernel, or try a fuller mirror")


def _make(
    context: Provisioning, apt: Apt, suites: Sequence[str], tools: Tools, row: KernelRow, candidate: Candidate
) -> str:
    packages = apt.locate(suites, [f"{name}={candidate.version}" for name in candidate.parts])
    record = {"packages": describe_packages(packages), "recipe": RECIPE, "tools": tools.digest}
    facts = {"series": row.series, "package": candidate.package, "build": candidate.version}

    def build(work: Path) -> None:
        debs = apt.fetch(packages)
        context.progress.step(f"build kernel {candidate.version}")
        _build(work, debs, tools, facts)

    return context.build("kernel", record, build)


def _is_wanted(path: str) -> bool:
    return path.startswith(("boot/", f"{MODULES}/"))


def _build(work: Path, debs: Sequence[Path], tools: Tools, facts: dict[str, str]) -> None:
    tree = read_packages(debs, _is_wanted)
    image, config = find_image(tree), find_config(tree)
    release = find_release(tree)
    payload = find_payload(image.data)
    vmlinux = decompress(payload, tools, release)
    check_vmlinux(vmlinux, payload.size)
    (work / "vmlinux").write_bytes(vmlinux)
    (work / "config").write_bytes(config.data)
    modules = plan_modules(tree, release, tools, work)
    modules.add(make_file(f"boot/config-{release}", config.data))
    index_modules(modules, tools, release, work)
    with (work / "modules.cpio").open("wb") as file:
        write_newc(file, modules.members())
    facts |= {"release": release, "config_digest": digest_file(work / "config")}
    (work / "facts.json").write_text(json.dumps(facts), "utf-8")


def _read_kernel(entry: Entry) -> Kernel:
    facts = json.loads((entry.folder / "facts.json").read_text("utf-8"))
    return Kernel(
        series=facts["series"],
        release=facts["release"],
        package=facts["package"],
        build=facts["build"],
        vmlinux=entry.folder / "vmlinux",
        config=entry.folder / "config",
        modules_cpio=entry.folder / "modules.cpio",
        digest=entry.digest,
        config_digest=facts["config_digest"],
    )


def find_fetched(cache: Cache) -> dict[str, str]:
    """The releases of distribution kernels that are in the cache, by series; of each the newest."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in cache.path("kernel", "").glob("*/facts.json"):
        try:
            facts = json.loads(path.read_text("utf-8"))
            series, build, release = (str(facts[name]) for name in ("series", "build", "release"))
        except (OSError, ValueError, LookupError):  # one of the user's own, or one that vanishes at this moment
            continue
        found[series] = max(found.get(series, ((), "")), (version_key(build), release))
    return {series: release for series, (_, release) in found.items()}


def _find_one(tree: Tree, what: str, paths: Iterable[str]) -> Member:
    found = [path for path in paths if path in tree]
    if not found:
        raise ValueError(f"no {what} in its packages")
    return tree[found[0]]


def find_release(tree: Tree) -> str:
    """The kernel's release: the name of the folder of its modules.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = {path.split("/")[3] for path in _paths(tree) if path.startswith(f"{MODULES}/") and "/kernel/" in path}
    if len(found) != 1:
        raise ValueError(f"modules of {len(found)} releases in its packages, not of one")
    return found.pop()


def find_image(tree: Tree) -> Member:
    """The bzImage: `/boot/vmlinuz-RELEASE`, or since 6.19 `vmlinuz` beside the modules.

    Raises:
        ValueError: there is none.
    """
    release = find_release(tree)
    return _find_one(tree, "kernel image", (f"boot/vmlinuz-{release}", f"{MODULES}/{release}/vmlinuz"))


def find_config(tree: Tree) -> Member:
    """The configuration: `/boot/config-RELEASE`, or since 6.19 `config` beside the modules.

    Raises:
        ValueError: there is none.
    """
    release = find_release(tree)
    return _find_one(tree, "configuration", (f"boot/config-{release}", f"{MODULES}/{release}/config"))


def _paths(tree: Tree) -> list[str]:
    return [member.path for member in tree.members()]


def decompress(payload: Payload, tools: Tools, subject: str) -> bytes:
    """The uncompressed image. lz4 and zstd, which the standard library lacks, by the distribution's programs.

    Raises:
        ProvisionError: a program failed.
        ValueError: the data is damaged.
    """
    try:
        match payload.compression:
            case "gzip":
                return gzip.decompress(payload.data)
            case "bzip2":
                return bz2.decompress(payload.data)
            case "xz" | "lzma":
                return lzma.decompress(payload.data)
            case name:
                return tools.run(name, ["-dc", "-"], data=payload.data, step="decompress kernel", subject=subject)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"the image can't be decompressed: {error}") from error
