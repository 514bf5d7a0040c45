"""Look at mounts and make some: python -m kernelproof.impl.mount list|tree|find|mount|bind|unmount|watch.

With --json the keys are those of `findmnt -J`. Exit status 0 is done, 1 is an error, 2 is a wrong use.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from kernelproof.impl._syscalls.interrupts import deadly_interrupts
from kernelproof.impl.mount.classic import bind, force_mount
from kernelproof.impl.mount.lookup import mount_of
from kernelproof.impl.mount.records import Mount, Propagation
from kernelproof.impl.mount.table import Change, MountTable, plan_tree
from kernelproof.impl.mount.unmounting import unmount
from kernelproof.impl.mount.watching import MountWatch

_COLUMNS = ("target", "source", "fstype", "options")


def mount_object(mount: Mount) -> dict[str, Any]:
    """Return a mount with the keys and values of `findmnt -J`."""
    source = mount.source if mount.root == "/" else f"{mount.source}[{mount.root}]"
    return {
        "target": mount.mount_point,
        "source": source or None,
        "fstype": mount.fstype,
        "options": merged_options(mount),
        "id": mount.id,
        "parent": mount.parent_id,
        "maj:min": f"{mount.major}:{mount.minor}",
        "fsroot": mount.root,
        "vfs-options": mount.opts,
        "fs-options": mount.vfs_opts,
        "opt-fields": mount.optional or None,
        "propagation": propagation_words(mount.propagation),
    }


def merged_options(mount: Mount) -> str:
    """Return per-mount and super options as one list: read-only if either of them is."""
    words = [*mount.mount_options[1:], *mount.super_options[1:]]
    return ",".join(["ro" if mount.is_read_only else "rw", *words])


def propagation_words(propagation: Propagation) -> str:
    """Return the type of propagation as findmnt has it: a slave is private too, as it sends nothing."""
    words = ["shared" if propagation & Propagation.SHARED else "private"]
    words += ["slave"] if propagation & Propagation.SLAVE else []
    words += ["unbindable"] if propagation & Propagation.UNBINDABLE else []
    return ",".join(words)


def tree_objects(table: MountTable) -> list[dict[str, Any]]:
    """Return the tree of a table; what is on a mount in the order of mount IDs."""
    branches = [branch for branch in plan_tree(table)]
    objects: dict[int, dict[str, Any]] = {}
    waiting = list(branches)
    while waiting:
        branch = waiting.pop()
        objects[branch.mount.id] = mount_object(branch.mount)
        waiting += branch.children
    for mount in sorted(table, key=lambda each: each.id):
        parent = objects.get(mount.parent_id)
        if parent is not None and mount.parent_id != mount.id:
            parent.setdefault("children", []).append(objects[mount.id])
    return [objects[branch.mount.id] for branch in branches]


def lines_of(objects: Iterable[dict[str, Any]], depth: int = 0) -> Iterable[tuple[str, ...]]:
    """Return mounts as rows of a table, those below others indented."""
    waiting = [(each, depth) for each in reversed(list(objects))]
    while waiting:
        each, level = waiting.pop()
        row = [printable(str(each[column] or "")) for column in _COLUMNS]
        yield ("  " * level + row[0], *row[1:])
        waiting += [(child, level + 1) for child in reversed(each.get("children", []))]


def printable(text: str) -> str:
    """Return text without what would move a terminal's cursor."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text)


def show(objects: list[dict[str, Any]], as_json: bool) -> None:
    """Print mounts."""
    if as_json:
        print(json.dumps({"filesystems": objects}))
        return
    rows = [tuple(column.upper() for column in _COLUMNS), *lines_of(objects)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS) - 1)]
    for row in rows:
        print(" ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip())


def change_object(change: Change) -> dict[str, Any]:
    """Return a change as data."""
    both = {"old": change.old, "new": change.new}
    return {"action": change.what, **{key: mount_object(each) for key, each in both.items() if each is not None}}


def do_list(given: argparse.Namespace) -> None:
    """Print the table."""
    table = MountTable.read(given.pid)
    show([mount_object(each) for each in table], given.json)
    for error in table.errors:
        print(f"{given.prog}: {error}", file=sys.stderr)


def do_tree(given: argparse.Namespace) -> None:
    """Print the table as a tree."""
    show(tree_objects(MountTable.read(given.pid)), given.json)


def do_find(given: argparse.Namespace) -> None:
    """Print the mount that a path is on."""
    show([mount_object(mount_of(given.path))], given.json)


def do_mount(given: argparse.Namespace) -> None:
    """Mount."""
    force_mount(given.source, given.target, given.type, given.options)
    shown(given)


def do_bind(given: argparse.Namespace) -> None:
    """Bind."""
    bind(given.source, given.target, recursive=given.recursive, read_only=given.read_only, options=given.options)
    shown(given)


def shown(given: argparse.Namespace) -> None:
    """With --json print what is mounted now; else nothing, as commands do that did as they were told."""
    if given.json:
        show([mount_object(mount_of(given.target))], as_json=True)


def do_unmount(given: argparse.Namespace) -> None:
    """Unmount."""
    if not unmount(given.target, lazy=given.lazy, timeout_seconds=given.timeout):
        raise OSError(22, "nothing is mounted there", given.target)


def do_watch(given: argparse.Namespace) -> None:
    """Print changes, one a line, until interrupted."""
    with deadly_interrupts(), MountWatch(given.pid) as watcher:
        for change in watcher:
            if given.json:
                text = json.dumps(change_object(change))
            else:
                mount = change.new or change.old
                row = next(iter(lines_of([mount_object(mount)]))) if mount else ()
                text = " ".join([change.what, *row])
            print(text, flush=True)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kernelproof.impl.mount",
        description="Look at mounts and make some. With --json the keys are those of `findmnt -J`.",
    )
    commands = parser.add_subparsers(metavar="command", required=True)

    def add(name: str, act: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=act.__doc__, description=act.__doc__)
        command.set_defaults(act=act, prog=parser.prog)
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    for name, act in (("list", do_list), ("tree", do_tree), ("watch", do_watch)):
        add(name, act).add_argument("--pid", default="self", help="the process whose mounts (default: this one)")
    add("find", do_find).add_argument("path", help="links are followed")
    for name, act in (("mount", do_mount), ("bind", do_bind)):
        command = add(name, act)
        command.add_argument("source")
        command.add_argument("target")
        command.add_argument("-o", "--options", default="", help="as for mount(8)")
        if name == "mount":
            command.add_argument("-t", "--type", default=None, help="type of the filesystem")
        else:
            command.add_argument("--read-only", action="store_true", help="the top of the tree only")
            command.add_argument("--recursive", action="store_true", help="with what is mounted below")
    command = add("unmount", do_unmount)
    command.add_argument("target")
    command.add_argument("--lazy", action="store_true", help="out of sight now, gone when nobody uses it")
    command.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="how long to try while busy")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = make_parser().parse_args(arguments)
    try:
        given.act(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has enough; the interpreter must not find the pipe broken a second time at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, LookupError, ValueError) as error:
        print(f"{given.prog}: {printable(str(error))}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"  {printable(note)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
