"""What goes on beside the store under test: another interpreter, a connection without us."""

from __future__ import annotations

import sqlite3
import subprocess
import sys


def run_python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


def python_beside(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program in an interpreter of its own, with pipes to it."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def plain_connection(path: str) -> sqlite3.Connection:
    """What sqlite3 gives."""
    return sqlite3.connect(path, isolation_level=None)
