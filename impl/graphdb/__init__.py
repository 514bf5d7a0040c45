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
"""

from kernelproof.impl.graphdb.change import UNSET
from kernelproof.impl.graphdb.database import GraphDatabase
from kernelproof.impl.graphdb.errors import (
    Busy,
    Closed,
    Conflict,
    CycleError,
    Damaged,
    DeadlineExceeded,
    Forked,
    GraphError,
    InvalidAttributes,
    InvalidPath,
    LimitExceeded,
    NameTaken,
    NotAGraph,
    NotFound,
    ReadOnly,
    Resync,
    RootProtected,
    Stale,
    StorageError,
)
from kernelproof.impl.graphdb.journal import Journal
from kernelproof.impl.graphdb.lookup import Child, Edge, Entity
from kernelproof.impl.graphdb.names import path_depth
from kernelproof.impl.graphdb.portable import (
    Database,
    Entities,
    WalkMeta,
    is_non_unique_name_error,
    new_database,
    new_sqlite_conn,
)
from kernelproof.impl.graphdb.traverse import Cursor, Step, Walk

Edges = tuple[Edge, ...]

__all__ = [
    "UNSET",
    "Busy",
    "Child",
    "Closed",
    "Conflict",
    "Cursor",
    "CycleError",
    "Damaged",
    "Database",
    "DeadlineExceeded",
    "Edge",
    "Edges",
    "Entities",
    "Entity",
    "Forked",
    "GraphDatabase",
    "GraphError",
    "InvalidAttributes",
    "InvalidPath",
    "Journal",
    "LimitExceeded",
    "NameTaken",
    "NotAGraph",
    "NotFound",
    "ReadOnly",
    "Resync",
    "RootProtected",
    "Stale",
    "Step",
    "StorageError",
    "Walk",
    "WalkMeta",
    "is_non_unique_name_error",
    "new_database",
    "new_sqlite_conn",
    "path_depth",
]
