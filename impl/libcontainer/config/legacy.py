"""container.json of 2014 to the records of today: generations B to E, told apart by their shapes; A is refused.

    generation(value)                    which one it is
    config = parse_legacy(data)          the configuration; args are not in such a file, the command line has them

Five months, five shapes: `namespaces` was a list of names (A), of objects (B), then a map (C); `capabilities` was a
list of names to drop (A), then of names to keep (D); what is to be dropped stood in `capabilities_mask` between them
(B, C).
A file of A that names capabilities is refused, as it would mean the opposite. Where the originals ignored an unknown
namespace or capability, and so weakened the container in silence, it is an error here.

Source: dotcloud/docker v0.9.1 to v0.11.1, pkg/libcontainer; docker/libcontainer v1.0.0 to v1.4.0.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config import jsontext, names
from kernelproof.impl.libcontainer.config.checking import check_config
from kernelproof.impl.libcontainer.config.decoding import read_value
from kernelproof.impl.libcontainer.config.findings import Findings
from kernelproof.impl.libcontainer.config.legacy_conversion import convert
from kernelproof.impl.libcontainer.config.legacy_records import LegacyContainer
from kernelproof.impl.libcontainer.config.problems import ConfigError, Problem

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelproof.impl.libcontainer.config.records import Config

FILE = "container.json"

# Key -> the kind of today, the flag of clone(2) that generation B had beside it.
NAMESPACES = {
    "NEWNS": ("mount", 0x20000),
    "NEWUTS": ("uts", 0x4000000),
    "NEWIPC": ("ipc", 0x8000000),
    "NEWUSER": ("user", 0x10000000),
    "NEWPID": ("pid", 0x20000000),
    "NEWNET": ("network", 0x40000000),
}
_OF_E = frozenset(("mount_config", "apparmor_profile", "process_label", "restrict_sys", "root_fs", "ipc", "rlimits"))
_OF_E_NETWORK = frozenset(("bridge", "veth_prefix", "ns_path"))
_OF_D = frozenset(("routes", "device_nodes"))
_OF_D_CGROUPS = frozenset(("allow_all_devices", "allowed_devices"))

REASON_A = (
    "before April 2014 capabilities named what to drop, since May 2014 it names what to keep. Unless namespaces is a "
    "map, the file is of the first kind, and read as the second it would grant just what it forbids"
)


def is_legacy(value: object) -> bool:
    """Whether a parsed file is container.json of 2014 rather than config.json: the latter must have ociVersion."""
    return (
        isinstance(value, dict)
        and "ociVersion" not in value
        and not value.keys().isdisjoint(
            (
                "namespaces",
                "capabilities",
                "capabilities_mask",
                "cgroups",
                "networks",
                "environment",
                "mount_config",
                "tty",
            )
        )
    )


def generation(value: dict[str, object]) -> str:
    """The generation of a parsed file: "A", "B", "C", "D" or "E"; the earliest that can say it."""
    if _networks_of_e(value) or not value.keys().isdisjoint(_OF_E):
        return "E"
    namespaces, cgroups = value.get("namespaces"), value.get("cgroups")
    later = not value.keys().isdisjoint(_OF_D) or (
        isinstance(cgroups, dict) and not cgroups.keys().isdisjoint(_OF_D_CGROUPS)
    )
    if "capabilities" in value and not later and not isinstance(namespaces, dict):
        return "A"
    if later or "capabilities" in value:
        return "D"
    lists = isinstance(namespaces, list) or isinstance(value.get("capabilities_mask"), list)
    return "B" if lists else "C"


def _networks_of_e(value: dict[str, object]) -> bool:
    networks = value.get("networks")
    return isinstance(networks, list) and any(
        isinstance(network, dict) and not network.keys().isdisjoint(_OF_E_NETWORK) for network in networks
    )


def parse_legacy(data: bytes | str, source: str = FILE, args: Sequence[str] = ()) -> Config:
    """Reads the text of a container.json of generation B, C, D or E.

    Args:
        data: the text.
        source: what to call it in errors.
        args: the program and its arguments, which are not in the file; without them the configuration has none.

    Raises:
        ConfigError: it is no JSON, of generation A, or says what can't be done; all problems at once.
    """
    try:
        value = jsontext.parse(data)
    except ValueError as error:
        raise ConfigError(source, [Problem("$", "", str(error))]) from None
    config, problems, _ = convert_legacy(value, args)
    if problems:
        raise ConfigError(source, problems)
    return config


def convert_legacy(value: object, args: Sequence[str] = ()) -> tuple[Config, list[Problem], list[Problem]]:
    """A parsed container.json as a configuration, what is wrong with it, what is odd; paths are those of the file."""
    found = Findings()
    members = dict(value) if isinstance(value, dict) else {}
    kind = generation(members)
    if kind == "A":
        found.wrong(
            "$.capabilities", members.get("capabilities"), REASON_A, "Write what is to be kept, namespaces as a map"
        )
        members.pop("capabilities")
    namespaces = _namespaces(members.pop("namespaces", None), found)
    dropped = _mask(members.pop("capabilities_mask", None), found)
    _units(members, found)
    if "capabilities" not in members and kind in "ABC":
        kept = tuple([name for name in names.CAPABILITIES if name not in dropped])
    else:
        kept = _keep_list(members.get("capabilities"), found)
    reading = read_value(members if isinstance(value, dict) else value, LegacyContainer)
    container = reading.record
    assert isinstance(container, LegacyContainer)
    config = convert(container, kind, namespaces, kept, tuple(args), found)
    # Without args there is no program yet: whoever starts it brings one.
    checked = check_config(config if args else config.replace(process=None))
    echoes = [problem.replace(path=f"{problem.path} (as config.json)") for problem in checked.problems]
    return config, [*reading.problems, *found.problems, *echoes], [*reading.warnings, *found.warnings]


def _namespaces(value: object, found: Findings) -> tuple[str, ...]:
    """The enabled namespaces' kinds of today, from any of the three shapes."""
    kinds: list[str] = []
    for at, key, enabled, flag in _entries(value, "$.namespaces", found):
        kind, number = NAMESPACES.get(key, ("", 0))
        if not kind:
            found.wrong(at, key, "no namespace of this name was known", f"One of {', '.join(NAMESPACES)}")
        elif flag is not None and flag != number:
            found.wrong(f"{at}.value", flag, f"the flag of {key} is {number}: one of the two is a mistake")
        elif enabled and kind not in kinds:
            kinds.append(kind)
    return tuple(kinds)


def _mask(value: object, found: Findings) -> tuple[str, ...]:
    """The capabilities to drop: false in a map or an object, all of a list of names, as in the README of v0.10.0."""
    plain = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    dropped: list[str] = []
    for at, key, enabled, _ in _entries(value, "$.capabilities_mask", found):
        name = f"CAP_{key}"
        if name not in names.CAPABILITIES:
            found.wrong(at, key, "no capability of this name is known", "Names are as in capabilities(7), without CAP_")
        elif plain or not enabled:
            dropped.append(name)
    return tuple(dropped)


def _keep_list(value: object, found: Findings) -> tuple[str, ...]:
    kept: list[str] = []
    for index, key in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(key, str):
            continue  # the records say so
        if f"CAP_{key}" not in names.CAPABILITIES:
            found.wrong(
                f"$.capabilities[{index}]", key, "no capability of this name is known", "Names have no CAP_ here"
            )
        kept.append(f"CAP_{key}")
    return tuple(dict.fromkeys(kept))


def _entries(value: object, at: str, found: Findings) -> list[tuple[str, str, bool, object]]:
    """Path, key, whether enabled, flag of each entry of a list of names, a list of objects, or a map."""
    entries: list[tuple[str, str, bool, object]] = []
    if isinstance(value, dict):
        for key, enabled in value.items():
            if not isinstance(enabled, bool):
                found.wrong(f"{at}.{key}", enabled, "true or false is needed")
            entries.append((f"{at}.{key}", key, enabled is True, None))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            entries += _entry(entry, f"{at}[{index}]", found)
    elif value is not None:
        found.wrong(at, value, "an object, or a list of names or objects, is needed")
    return entries


def _entry(entry: object, at: str, found: Findings) -> list[tuple[str, str, bool, object]]:
    if isinstance(entry, str):
        return [(at, entry, True, None)]
    if entry is None:  # lists with holes were known, and skipped
        return []
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        found.wrong(at, entry, "a name or an object with a key is needed")
        return []
    for name in entry:
        if name not in ("key", "enabled", "value", "file"):
            found.odd(f"{at}.{name}", entry[name], "no such key is known here; it is ignored")
    enabled = entry.get("enabled", False)
    if not isinstance(enabled, bool):
        found.wrong(f"{at}.enabled", enabled, "true or false is needed")
    return [(at, entry["key"], enabled is True, entry.get("value") if "value" in entry else None)]


def _units(members: dict[str, object], found: Findings) -> None:
    """unit_properties of B: pairs, of which only Slice was ever accepted."""
    cgroups = members.get("cgroups")
    if not isinstance(cgroups, dict) or "unit_properties" not in cgroups:
        return
    members["cgroups"] = cgroups = dict(cgroups)
    value = cgroups.pop("unit_properties")
    for index, pair in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(pair, list) and len(pair) == 2 and pair[0] == "Slice":
            cgroups.setdefault("slice", pair[1])
        else:
            found.wrong(f"$.cgroups.unit_properties[{index}]", pair, 'only ["Slice", name] was ever possible')
