"""exec, of 2014: run a program by container.json; in the container that runs by it, if one does."""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.conditions import read_state
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.ending import delete
from kernelproof.impl.libcontainer.lifecycle import run as run_container
from kernelproof.impl.libcontainer.nsinit.main import DATA_PATH
from kernelproof.impl.libcontainer.nsinit.of2014 import load, name_of
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.nsinit.verbs.bundles import flush, root_of
from kernelproof.impl.libcontainer.nsinit.verbs.running import attend
from kernelproof.impl.libcontainer.plan import Request
from kernelproof.impl.libcontainer.running import execute
from kernelproof.impl.libcontainer.state import RUNNING, STOPPED, NoSuchContainerError

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Runs the program; the exit status is its own."""
    data_path = os.environ.get(DATA_PATH, ".")
    name, root = name_of(data_path), root_of(context)
    config = load(data_path, tuple(given.operands))
    status = find_status(root, name)
    flush()
    if status == RUNNING:
        assert config.process is not None
        return attend(execute(root, name, config.process), given) or 0
    if status == STOPPED:  # what a runtime that was killed left
        delete(root, name, tell=context.log.warning)
    pid_file = os.path.join(data_path, "pid")
    request = Request(name, os.path.abspath(data_path), waits=False, no_pivot=config.no_pivot_root)
    text = dump(config, None, own=True).encode()
    started = run_container(root, config, request, config_text=text, pid_file=pid_file, tell=context.log.warning)
    code = attend(started, given)
    delete(root, name, tell=context.log.warning)
    os.unlink(pid_file)
    return code or 0


def find_status(root: str, name: str) -> str:
    """What the container of a name is; empty if there is none."""
    try:
        return str(read_state(root, name)["status"])
    except NoSuchContainerError:
        return ""


COMMAND = Command("of 2014: run a program by container.json", (), ("[WORD...]",), run=run, in_order=True)
