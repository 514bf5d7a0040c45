"""Names for things: a rooted graph of named edges in one SQLite file.

An *entity* is a thing with an id. An *edge* leads from a parent to an entity under a name that is unique below that
parent. One entity may have many names; the root is the entity `0` under the path `/`. Container engines keep names
and links so, and readers of 2014 find the functions of Docker's package of that name in `portable`.

    with GraphDatabase.open("links.db") as graph:
        graph.set("/web", "c0ffee")
        graph.set("/web/db", "decade")
        print([step.path for step in graph.walk("/")])

Not for property graphs with a query language, and not for a file that several hosts share.

Layers, lower ones first; each may use those before it:

    errors, names, journal        no file, no SQL
    schema, connection, opening   the file, its layout, who may use which connection
    lookup, change, attributes    single statements on a connection
    migrate, store                transactions; from and to the layout of 2014
    traverse, queries, feed, integrity, bulk, batch, exchange
    reading, writing, database, portable, command   what callers use


A name is looked up when it is first used, so that a program pays for the modules it needs.
"""

from importlib import import_module

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.graphdb.change import UNSET as UNSET
    from kernelproof.impl.graphdb.database import GraphDatabase as GraphDatabase
    from kernelproof.impl.graphdb.errors import Busy as Busy
    from kernelproof.impl.graphdb.errors import Closed as Closed
    from kernelproof.impl.graphdb.errors import Conflict as Conflict
    from kernelproof.impl.graphdb.errors import CycleError as CycleError
    from kernelproof.impl.graphdb.errors import Damaged as Damaged
    from kernelproof.impl.graphdb.errors import DeadlineExceeded as DeadlineExceeded
    from kernelproof.impl.graphdb.errors import Forked as Forked
    from kernelproof.impl.graphdb.errors import GraphError as GraphError
    from kernelproof.impl.graphdb.errors import InvalidAttributes as InvalidAttributes
    from kernelproof.impl.graphdb.errors import InvalidPath as InvalidPath
    from kernelproof.impl.graphdb.errors import LimitExceeded as LimitExceeded
    from kernelproof.impl.graphdb.errors import NameTaken as NameTaken
    from kernelproof.impl.graphdb.errors import NotAGraph as NotAGraph
    from kernelproof.impl.graphdb.errors import NotFound as NotFound
    from kernelproof.impl.graphdb.errors import ReadOnly as ReadOnly
    from kernelproof.impl.graphdb.errors import Resync as Resync
    from kernelproof.impl.graphdb.errors import RootProtected as RootProtected
    from kernelproof.impl.graphdb.errors import Stale as Stale
    from kernelproof.impl.graphdb.errors import StorageError as StorageError
    from kernelproof.impl.graphdb.journal import Journal as Journal
    from kernelproof.impl.graphdb.lookup import Child as Child
    from kernelproof.impl.graphdb.lookup import Edge as Edge
    from kernelproof.impl.graphdb.lookup import Edges as Edges
    from kernelproof.impl.graphdb.lookup import Entity as Entity
    from kernelproof.impl.graphdb.names import path_depth as path_depth
    from kernelproof.impl.graphdb.portable import Database as Database
    from kernelproof.impl.graphdb.portable import Entities as Entities
    from kernelproof.impl.graphdb.portable import WalkMeta as WalkMeta
    from kernelproof.impl.graphdb.portable import is_non_unique_name_error as is_non_unique_name_error
    from kernelproof.impl.graphdb.portable import new_database as new_database
    from kernelproof.impl.graphdb.portable import new_sqlite_conn as new_sqlite_conn
    from kernelproof.impl.graphdb.traverse import Cursor as Cursor
    from kernelproof.impl.graphdb.traverse import Step as Step
    from kernelproof.impl.graphdb.traverse import Walk as Walk

# Module below this package -> what it gives.
_HOMES = {
    "change": "UNSET",
    "database": "GraphDatabase",
    "errors": (
        "Busy Closed Conflict CycleError Damaged DeadlineExceeded Forked GraphError InvalidAttributes "
        "InvalidPath LimitExceeded NameTaken NotAGraph NotFound ReadOnly Resync RootProtected Stale StorageError"
    ),
    "journal": "Journal",
    "lookup": "Child Edge Edges Entity",
    "names": "path_depth",
    "portable": "Database Entities WalkMeta is_non_unique_name_error new_database new_sqlite_conn",
    "traverse": "Cursor Step Walk",
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
