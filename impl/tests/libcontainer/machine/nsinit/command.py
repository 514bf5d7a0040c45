"""nsinit as a command, in a process of its own that prints to files: a container's process inherits what it has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import kernelproof

# As python -m kernelproof.impl.libcontainer, wherever the machine keeps the parts of the package.
CODE = (
    f"import sys; sys.path[:0] = {sys.path!r}; import kernelproof;"
    f"kernelproof.__path__[:] = {list(kernelproof.__path__)!r};"
    "from kernelproof.impl.libcontainer.nsinit.main import main; sys.exit(main())"
)
# The Python half as an installer leaves it, but for where the package lies: in a machine that is several places.
HALF = f"#!{sys.executable}\n{CODE}\n"
NSINIT = (sys.executable, "-c", CODE)


def run_in(bundle: Path, command: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a bundle, with more in its environment; its output is what it wrote to the files out and err."""
    with open(bundle / "out", "w+") as out, open(bundle / "err", "w+") as err:
        done = subprocess.run(
            command,
            cwd=bundle,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
        )
    said = [(bundle / name).read_text() for name in ("out", "err")]
    return subprocess.CompletedProcess(command, done.returncode, *said)
