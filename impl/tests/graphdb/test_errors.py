"""What errors say, and what SQLite's become."""

from __future__ import annotations

import sqlite3

import pytest

from kernelproof.impl.graphdb.errors import Conflict, CycleError, StorageError, translate


def test_errors_say_what_was_found() -> None:
    """A conflict names the path and both ids; a cycle says what it was told and keeps the ids."""
    conflict = Conflict("/a", "1", None)
    assert str(conflict) == "/a: expected '1', found None; read it again and decide anew"
    assert (conflict.expected, conflict.found) == ("1", None)
    cycle = CycleError("a goes back to a", ("a", "b"))
    assert (str(cycle), cycle.cycle) == ("a goes back to a", ("a", "b"))


def test_error_of_the_module_itself() -> None:
    """What sqlite3 raises without a result code of SQLite's is a StorageError that names file and class."""
    error = translate(sqlite3.ProgrammingError("Cannot operate on a closed database."), "/x.db")
    assert type(error) is StorageError
    assert str(error) == "/x.db: Cannot operate on a closed database. (ProgrammingError)"


@pytest.mark.parametrize("statement", ["SELECT * FROM missing", "SELEC"])
def test_error_of_the_library(statement: str) -> None:
    """What SQLite refused is told with the name of its result code and with a remedy."""
    with sqlite3.connect(":memory:") as connection, pytest.raises(sqlite3.OperationalError) as refused:
        connection.execute(statement)
    connection.close()
    text = str(translate(refused.value, "/x.db"))
    assert text.startswith("/x.db: ")
    assert "(SQLITE_ERROR); " in text
