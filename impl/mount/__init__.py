"""Mounts of Linux: the table, every way to change it, and paths that stay inside a root.

    classic     mount, bind, remount, move, types of propagation: the calls that every kernel has
    context     filesystem contexts: each option a call, and the filesystem's own words in errors
    detached    mounts that are attached as the last step; attributes of one mount or a tree
    plans       mounts as values: printed, done, and undone if one fails; masks hide paths of a container
    overlays, tmpfs, idmapped, loop: overlay layers, tmpfs with copy-up, other owners, files as block devices
    pivot       another root for a mount namespace; namespace is one of a thread's own
    roads       the new calls where the kernel has them, and which it was; mounting inside a root
    resolve     paths that stay inside a root; walk is the way without openat2; handles: procfs that is procfs
    unmounting  unmount one or a tree, with a deadline; holders says who keeps it busy
    table       MountTable: read once, asked often; mountinfo is its text, records its Mount
    point       is a path a mount point, and which mount is it on
    lookup      the mount that a path or descriptor is on; statmounts asks the kernel without text; locked: what may
                be the reason for a refusal
    watching    what changes in a mount namespace
    options     words of `mount -o` and fstab to flags, and back; fstab is the file
    errors      what can go wrong

Each stands on those below it. This is not for devices, partitions, or checking a filesystem.

A name is looked up when it is first used, so that a program pays for the modules it needs.
"""

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.mount.classic import bind as bind
    from kernelproof.impl.mount.classic import force_mount as force_mount
    from kernelproof.impl.mount.classic import make_private as make_private
    from kernelproof.impl.mount.classic import make_rprivate as make_rprivate
    from kernelproof.impl.mount.classic import make_rshared as make_rshared
    from kernelproof.impl.mount.classic import make_rslave as make_rslave
    from kernelproof.impl.mount.classic import make_runbindable as make_runbindable
    from kernelproof.impl.mount.classic import make_shared as make_shared
    from kernelproof.impl.mount.classic import make_slave as make_slave
    from kernelproof.impl.mount.classic import make_unbindable as make_unbindable
    from kernelproof.impl.mount.classic import mount as mount
    from kernelproof.impl.mount.classic import mounted as mounted
    from kernelproof.impl.mount.classic import move as move
    from kernelproof.impl.mount.classic import remount as remount
    from kernelproof.impl.mount.context import FsContext as FsContext
    from kernelproof.impl.mount.detached import DetachedMount as DetachedMount
    from kernelproof.impl.mount.detached import set_attributes as set_attributes
    from kernelproof.impl.mount.errors import FsContextError as FsContextError
    from kernelproof.impl.mount.errors import FstabError as FstabError
    from kernelproof.impl.mount.errors import LogLine as LogLine
    from kernelproof.impl.mount.errors import MountError as MountError
    from kernelproof.impl.mount.errors import MountinfoError as MountinfoError
    from kernelproof.impl.mount.errors import NoSuchMountError as NoSuchMountError
    from kernelproof.impl.mount.errors import OptionError as OptionError
    from kernelproof.impl.mount.errors import StillMountedError as StillMountedError
    from kernelproof.impl.mount.errors import TooLongError as TooLongError
    from kernelproof.impl.mount.errors import UnsafePathError as UnsafePathError
    from kernelproof.impl.mount.fstab import Fstab as Fstab
    from kernelproof.impl.mount.fstab import FstabEntry as FstabEntry
    from kernelproof.impl.mount.fstab import FstabLine as FstabLine
    from kernelproof.impl.mount.fstab import format_fstab as format_fstab
    from kernelproof.impl.mount.fstab import parse_fstab as parse_fstab
    from kernelproof.impl.mount.fstab import read_fstab as read_fstab
    from kernelproof.impl.mount.handles import FilesystemHandle as FilesystemHandle
    from kernelproof.impl.mount.handles import open_procfs as open_procfs
    from kernelproof.impl.mount.handles import open_sysfs as open_sysfs
    from kernelproof.impl.mount.handles import reopen as reopen
    from kernelproof.impl.mount.holders import Holder as Holder
    from kernelproof.impl.mount.holders import find_holders as find_holders
    from kernelproof.impl.mount.idmapped import IdRange as IdRange
    from kernelproof.impl.mount.idmapped import map_ids as map_ids
    from kernelproof.impl.mount.idmapped import open_user_namespace as open_user_namespace
    from kernelproof.impl.mount.listing import get_mounts as get_mounts
    from kernelproof.impl.mount.listing import pid_mount_info as pid_mount_info
    from kernelproof.impl.mount.lookup import attributes_of as attributes_of
    from kernelproof.impl.mount.lookup import find_mount as find_mount
    from kernelproof.impl.mount.lookup import mount_by_id as mount_by_id
    from kernelproof.impl.mount.lookup import mount_of as mount_of
    from kernelproof.impl.mount.loop import LoopDevice as LoopDevice
    from kernelproof.impl.mount.loop import LoopFlag as LoopFlag
    from kernelproof.impl.mount.loop import LoopStatus as LoopStatus
    from kernelproof.impl.mount.loop import attach_loop as attach_loop
    from kernelproof.impl.mount.loop import list_loops as list_loops
    from kernelproof.impl.mount.loop import open_loop as open_loop
    from kernelproof.impl.mount.masks import mask_paths as mask_paths
    from kernelproof.impl.mount.mountinfo import ParsedMountinfo as ParsedMountinfo
    from kernelproof.impl.mount.mountinfo import decode_octal as decode_octal
    from kernelproof.impl.mount.mountinfo import encode_octal as encode_octal
    from kernelproof.impl.mount.mountinfo import format_mount as format_mount
    from kernelproof.impl.mount.mountinfo import parse_mountinfo as parse_mountinfo
    from kernelproof.impl.mount.namespace import Namespace as Namespace
    from kernelproof.impl.mount.options import MountAttribute as MountAttribute
    from kernelproof.impl.mount.options import MountFlag as MountFlag
    from kernelproof.impl.mount.options import Options as Options
    from kernelproof.impl.mount.options import format_options as format_options
    from kernelproof.impl.mount.options import merge_tmpfs_options as merge_tmpfs_options
    from kernelproof.impl.mount.options import parse_options as parse_options
    from kernelproof.impl.mount.options import split_options as split_options
    from kernelproof.impl.mount.overlays import OverlaySpec as OverlaySpec
    from kernelproof.impl.mount.overlays import mount_overlay as mount_overlay
    from kernelproof.impl.mount.pivot import change_root as change_root
    from kernelproof.impl.mount.plans import FsOpen as FsOpen
    from kernelproof.impl.mount.plans import MountSpec as MountSpec
    from kernelproof.impl.mount.plans import MoveMount as MoveMount
    from kernelproof.impl.mount.plans import OpenTree as OpenTree
    from kernelproof.impl.mount.plans import SetAttr as SetAttr
    from kernelproof.impl.mount.plans import describe_plan as describe_plan
    from kernelproof.impl.mount.plans import perform_mounts as perform_mounts
    from kernelproof.impl.mount.plans import plan_mounts as plan_mounts
    from kernelproof.impl.mount.point import MountPointProbe as MountPointProbe
    from kernelproof.impl.mount.point import is_mount_point as is_mount_point
    from kernelproof.impl.mount.point import mount_id as mount_id
    from kernelproof.impl.mount.point import probe_mount_point as probe_mount_point
    from kernelproof.impl.mount.records import Mount as Mount
    from kernelproof.impl.mount.records import MountInfo as MountInfo
    from kernelproof.impl.mount.records import Propagation as Propagation
    from kernelproof.impl.mount.resolve import Root as Root
    from kernelproof.impl.mount.resolve import create_mount_point_in_root as create_mount_point_in_root
    from kernelproof.impl.mount.resolve import mkdir_in_root as mkdir_in_root
    from kernelproof.impl.mount.roads import Road as Road
    from kernelproof.impl.mount.roads import mount_by_any_road as mount_by_any_road
    from kernelproof.impl.mount.roads import mount_by_new_api as mount_by_new_api
    from kernelproof.impl.mount.roads import mount_detached as mount_detached
    from kernelproof.impl.mount.roads import mount_in_root as mount_in_root
    from kernelproof.impl.mount.statmounts import parse_statmount as parse_statmount
    from kernelproof.impl.mount.statmounts import read_by_statmount as read_by_statmount
    from kernelproof.impl.mount.table import Branch as Branch
    from kernelproof.impl.mount.table import Change as Change
    from kernelproof.impl.mount.table import MountTable as MountTable
    from kernelproof.impl.mount.table import fstype_filter as fstype_filter
    from kernelproof.impl.mount.table import parents_filter as parents_filter
    from kernelproof.impl.mount.table import prefix_filter as prefix_filter
    from kernelproof.impl.mount.table import single_entry_filter as single_entry_filter
    from kernelproof.impl.mount.tmpfs import mount_tmpfs as mount_tmpfs
    from kernelproof.impl.mount.tmpfs import tmpfs_copy_up as tmpfs_copy_up
    from kernelproof.impl.mount.unmounting import force_unmount as force_unmount
    from kernelproof.impl.mount.unmounting import plan_unmounts as plan_unmounts
    from kernelproof.impl.mount.unmounting import recursive_unmount as recursive_unmount
    from kernelproof.impl.mount.unmounting import unmount as unmount
    from kernelproof.impl.mount.unmounting import unmount_recursive as unmount_recursive
    from kernelproof.impl.mount.watching import MountWatch as MountWatch
    from kernelproof.impl.mount.watching import watch as watch

# Module -> its public names.
_HOMES = {
    "classic": (
        "bind force_mount make_private make_rprivate make_rshared make_rslave make_runbindable make_shared "
        "make_slave make_unbindable mount mounted move remount"
    ),
    "context": "FsContext",
    "detached": "DetachedMount set_attributes",
    "errors": (
        "FsContextError FstabError LogLine MountError MountinfoError NoSuchMountError OptionError "
        "StillMountedError TooLongError UnsafePathError"
    ),
    "fstab": "Fstab FstabEntry FstabLine format_fstab parse_fstab read_fstab",
    "handles": "FilesystemHandle open_procfs open_sysfs reopen",
    "holders": "Holder find_holders",
    "idmapped": "IdRange map_ids open_user_namespace",
    "listing": "get_mounts pid_mount_info",
    "lookup": "attributes_of find_mount mount_by_id mount_of",
    "loop": "LoopDevice LoopFlag LoopStatus attach_loop list_loops open_loop",
    "masks": "mask_paths",
    "mountinfo": "ParsedMountinfo decode_octal encode_octal format_mount parse_mountinfo",
    "namespace": "Namespace",
    "options": "MountAttribute MountFlag Options format_options merge_tmpfs_options parse_options split_options",
    "overlays": "OverlaySpec mount_overlay",
    "pivot": "change_root",
    "plans": "FsOpen MountSpec MoveMount OpenTree SetAttr describe_plan perform_mounts plan_mounts",
    "point": "MountPointProbe is_mount_point mount_id probe_mount_point",
    "records": "Mount MountInfo Propagation",
    "resolve": "Root create_mount_point_in_root mkdir_in_root",
    "roads": "Road mount_by_any_road mount_by_new_api mount_detached mount_in_root",
    "statmounts": "parse_statmount read_by_statmount",
    "table": "Branch Change MountTable fstype_filter parents_filter prefix_filter single_entry_filter",
    "tmpfs": "mount_tmpfs tmpfs_copy_up",
    "unmounting": "force_unmount plan_unmounts recursive_unmount unmount unmount_recursive",
    "watching": "MountWatch watch",
}


def __getattr__(name: str) -> object:
    module = next((module for module, names in _HOMES.items() if name in names.split()), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # measured: 0.6 ms, which a command that lives for 20 must not pay

    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return sorted(name for names in _HOMES.values() for name in names.split())
