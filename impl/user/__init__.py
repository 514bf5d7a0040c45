"""Users and groups of Linux, without any library: files, subordinate ids, ID maps, records of systemd.

    records     User, Group, Shadow … and what is wrong with a line
    tables      parsers of passwd, group, shadow, gshadow, subuid and subgid
    files       the same from files: bounded, regular, inside a root
    lookup      by name, id and membership, without reading all of a large file
    exec_user   `user[:group]` to ids, groups and home, with the file and line each came from
    nsswitch    the order of /etc/nsswitch.conf; sources obeys it over files, userdb, varlink and NSS
    subid       ranges of subordinate ids; idmap and idplan: maps of user namespaces
    credentials as whom a process runs: read, and changed in the only order that works
    directories make directories for a user; ownership gives trees away: by descriptors, against symlink races
    names       which names are valid, by whose rules

This is not for who is logged in, and not for authentication. NSS is asked only where a caller names it.

A name is looked up when it is first used, so that a program pays for the modules it needs.
"""

from importlib import import_module

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.user.credentials import Credentials as Credentials
    from kernelproof.impl.user.credentials import Ids as Ids
    from kernelproof.impl.user.credentials import acting_as as acting_as
    from kernelproof.impl.user.credentials import become as become
    from kernelproof.impl.user.credentials import parse_credentials as parse_credentials
    from kernelproof.impl.user.credentials import read_credentials as read_credentials
    from kernelproof.impl.user.credentials import set_gids as set_gids
    from kernelproof.impl.user.credentials import set_groups as set_groups
    from kernelproof.impl.user.credentials import set_uids as set_uids
    from kernelproof.impl.user.directories import make_directories as make_directories
    from kernelproof.impl.user.directories import mkdir_as as mkdir_as
    from kernelproof.impl.user.errors import ErrRange as ErrRange
    from kernelproof.impl.user.errors import ErrUnsupported as ErrUnsupported
    from kernelproof.impl.user.errors import ExchangedError as ExchangedError
    from kernelproof.impl.user.errors import IdMapError as IdMapError
    from kernelproof.impl.user.errors import IdRangeError as IdRangeError
    from kernelproof.impl.user.errors import NoMatchingEntryError as NoMatchingEntryError
    from kernelproof.impl.user.errors import NotRegularFileError as NotRegularFileError
    from kernelproof.impl.user.errors import ParseError as ParseError
    from kernelproof.impl.user.errors import TooLargeError as TooLargeError
    from kernelproof.impl.user.errors import UnsupportedError as UnsupportedError
    from kernelproof.impl.user.errors import UserDatabaseError as UserDatabaseError
    from kernelproof.impl.user.exec_user import ExecUser as ExecUser
    from kernelproof.impl.user.exec_user import Origin as Origin
    from kernelproof.impl.user.exec_user import Origins as Origins
    from kernelproof.impl.user.exec_user import additional_groups as additional_groups
    from kernelproof.impl.user.exec_user import get_additional_groups_path as get_additional_groups_path
    from kernelproof.impl.user.exec_user import get_exec_user as get_exec_user
    from kernelproof.impl.user.exec_user import get_exec_user_path as get_exec_user_path
    from kernelproof.impl.user.exec_user import get_user_group_supplementary as get_user_group_supplementary
    from kernelproof.impl.user.exec_user import get_user_group_supplementary_home as get_user_group_supplementary_home
    from kernelproof.impl.user.exec_user import resolve_user as resolve_user
    from kernelproof.impl.user.files import open_regular as open_regular
    from kernelproof.impl.user.files import parse_group_file as parse_group_file
    from kernelproof.impl.user.files import parse_group_file_filter as parse_group_file_filter
    from kernelproof.impl.user.files import parse_passwd_file as parse_passwd_file
    from kernelproof.impl.user.files import parse_passwd_file_filter as parse_passwd_file_filter
    from kernelproof.impl.user.files import read_group as read_group
    from kernelproof.impl.user.files import read_gshadow as read_gshadow
    from kernelproof.impl.user.files import read_passwd as read_passwd
    from kernelproof.impl.user.files import read_shadow as read_shadow
    from kernelproof.impl.user.files import read_subgid as read_subgid
    from kernelproof.impl.user.files import read_subuid as read_subuid
    from kernelproof.impl.user.files import read_text as read_text
    from kernelproof.impl.user.idmap import Extent as Extent
    from kernelproof.impl.user.idmap import IdMap as IdMap
    from kernelproof.impl.user.idplan import RunProgram as RunProgram
    from kernelproof.impl.user.idplan import WriteFile as WriteFile
    from kernelproof.impl.user.idplan import Writer as Writer
    from kernelproof.impl.user.idplan import newuidmap_problems as newuidmap_problems
    from kernelproof.impl.user.idplan import perform as perform
    from kernelproof.impl.user.idplan import plan_id_maps as plan_id_maps
    from kernelproof.impl.user.idplan import read_id_map as read_id_map
    from kernelproof.impl.user.lines import parse_line as parse_line
    from kernelproof.impl.user.lookup import current_group as current_group
    from kernelproof.impl.user.lookup import current_user as current_user
    from kernelproof.impl.user.lookup import entry_for as entry_for
    from kernelproof.impl.user.lookup import get_group as get_group
    from kernelproof.impl.user.lookup import get_group_path as get_group_path
    from kernelproof.impl.user.lookup import get_passwd as get_passwd
    from kernelproof.impl.user.lookup import get_passwd_path as get_passwd_path
    from kernelproof.impl.user.lookup import group_members as group_members
    from kernelproof.impl.user.lookup import lookup_gid as lookup_gid
    from kernelproof.impl.user.lookup import lookup_group as lookup_group
    from kernelproof.impl.user.lookup import lookup_uid as lookup_uid
    from kernelproof.impl.user.lookup import lookup_user as lookup_user
    from kernelproof.impl.user.lookup import user_groups as user_groups
    from kernelproof.impl.user.names import is_valid_name as is_valid_name
    from kernelproof.impl.user.names import name_problems as name_problems
    from kernelproof.impl.user.nsswitch import Nsswitch as Nsswitch
    from kernelproof.impl.user.nsswitch import ServiceRule as ServiceRule
    from kernelproof.impl.user.nsswitch import parse_nsswitch as parse_nsswitch
    from kernelproof.impl.user.ownership import LinkedOutsideError as LinkedOutsideError
    from kernelproof.impl.user.ownership import chown_tree as chown_tree
    from kernelproof.impl.user.ownership import shift_tree as shift_tree
    from kernelproof.impl.user.record_fields import Machine as Machine
    from kernelproof.impl.user.record_fields import RecordError as RecordError
    from kernelproof.impl.user.records import HIGHEST_ID as HIGHEST_ID
    from kernelproof.impl.user.records import Diagnostic as Diagnostic
    from kernelproof.impl.user.records import Group as Group
    from kernelproof.impl.user.records import GroupShadow as GroupShadow
    from kernelproof.impl.user.records import Parsed as Parsed
    from kernelproof.impl.user.records import Shadow as Shadow
    from kernelproof.impl.user.records import SubordinateRange as SubordinateRange
    from kernelproof.impl.user.records import User as User
    from kernelproof.impl.user.sources import Files as Files
    from kernelproof.impl.user.sources import Nss as Nss
    from kernelproof.impl.user.sources import Records as Records
    from kernelproof.impl.user.sources import View as View
    from kernelproof.impl.user.subid import allocate_range as allocate_range
    from kernelproof.impl.user.subid import find_overlaps as find_overlaps
    from kernelproof.impl.user.subid import owner_ranges as owner_ranges
    from kernelproof.impl.user.subid import subordinate_ranges as subordinate_ranges
    from kernelproof.impl.user.subid import user_namespace_map as user_namespace_map
    from kernelproof.impl.user.subid import without as without
    from kernelproof.impl.user.tables import FILE_LIMIT as FILE_LIMIT
    from kernelproof.impl.user.tables import GROUP as GROUP
    from kernelproof.impl.user.tables import GSHADOW as GSHADOW
    from kernelproof.impl.user.tables import LINE_LIMIT as LINE_LIMIT
    from kernelproof.impl.user.tables import PASSWD as PASSWD
    from kernelproof.impl.user.tables import SHADOW as SHADOW
    from kernelproof.impl.user.tables import SUBID as SUBID
    from kernelproof.impl.user.tables import iterate as iterate
    from kernelproof.impl.user.tables import parse_group as parse_group
    from kernelproof.impl.user.tables import parse_group_filter as parse_group_filter
    from kernelproof.impl.user.tables import parse_gshadow as parse_gshadow
    from kernelproof.impl.user.tables import parse_passwd as parse_passwd
    from kernelproof.impl.user.tables import parse_passwd_filter as parse_passwd_filter
    from kernelproof.impl.user.tables import parse_shadow as parse_shadow
    from kernelproof.impl.user.tables import parse_subid as parse_subid
    from kernelproof.impl.user.userdb import GroupRecord as GroupRecord
    from kernelproof.impl.user.userdb import Userdb as Userdb
    from kernelproof.impl.user.userdb import UserRecord as UserRecord
    from kernelproof.impl.user.userdb import parse_group_record as parse_group_record
    from kernelproof.impl.user.userdb import parse_user_record as parse_user_record
    from kernelproof.impl.user.userdb import read_machine as read_machine
    from kernelproof.impl.user.varlink import VarlinkError as VarlinkError
    from kernelproof.impl.user.varlink import VarlinkUserdb as VarlinkUserdb

# Module -> its public names.
_HOMES = {
    "credentials": ("Credentials Ids acting_as become parse_credentials read_credentials set_gids set_groups set_uids"),
    "directories": "make_directories mkdir_as",
    "errors": (
        "ErrRange ErrUnsupported ExchangedError IdMapError IdRangeError NoMatchingEntryError "
        "NotRegularFileError ParseError TooLargeError UnsupportedError UserDatabaseError"
    ),
    "exec_user": (
        "ExecUser Origin Origins additional_groups get_additional_groups_path get_exec_user "
        "get_exec_user_path get_user_group_supplementary get_user_group_supplementary_home "
        "resolve_user"
    ),
    "files": (
        "open_regular parse_group_file parse_group_file_filter parse_passwd_file "
        "parse_passwd_file_filter read_group read_gshadow read_passwd read_shadow read_subgid "
        "read_subuid read_text"
    ),
    "idmap": "Extent IdMap",
    "idplan": "RunProgram WriteFile Writer newuidmap_problems perform plan_id_maps read_id_map",
    "lines": "parse_line",
    "lookup": (
        "current_group current_user entry_for get_group get_group_path get_passwd get_passwd_path "
        "group_members lookup_gid lookup_group lookup_uid lookup_user user_groups"
    ),
    "names": "is_valid_name name_problems",
    "nsswitch": "Nsswitch ServiceRule parse_nsswitch",
    "ownership": "LinkedOutsideError chown_tree shift_tree",
    "record_fields": "Machine RecordError",
    "records": "Diagnostic Group GroupShadow HIGHEST_ID Parsed Shadow SubordinateRange User",
    "sources": "Files Nss Records View",
    "subid": "allocate_range find_overlaps owner_ranges subordinate_ranges user_namespace_map without",
    "tables": (
        "FILE_LIMIT GROUP GSHADOW LINE_LIMIT PASSWD SHADOW SUBID iterate parse_group "
        "parse_group_filter parse_gshadow parse_passwd parse_passwd_filter parse_shadow "
        "parse_subid"
    ),
    "userdb": "GroupRecord UserRecord Userdb parse_group_record parse_user_record read_machine",
    "varlink": "VarlinkError VarlinkUserdb",
}


def __getattr__(name: str) -> object:
    if name == "__all__":  # for import *, which finds no names here otherwise
        return __dir__()
    module = next((module for module, names in _HOMES.items() if name in names.split()), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return sorted(name for names in _HOMES.values() for name in names.split())
