"""Whose suite ran: kernelproof's version and the suite's commit."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kernelproof.conformance.report.records import Project

_SECONDS = 10


def read_project(folder: Path) -> Project:
    """Return version and commit; what can't be known (not installed, no git, no repository) is None."""
    try:
        own_version = version("kernelproof")
    except PackageNotFoundError:
        own_version = None
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    status = None if commit is None else _git(folder, "status", "--porcelain")
    return Project(own_version, commit, None if status is None else bool(status))


def _git(folder: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            [git, "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
