"""The examples in docstrings of modules run, each in a machine of its own.

Of a few that would wait for ever, or are parts of programs, the names hold.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import os
import re
import signal
import socket
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from kernelproof import Template

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("impl", "vm", "conformance")
BLOCK = re.compile(r"(?:^|\n)\n((?:    .*\n|\n(?=    ))+)")


class Around(NamedTuple):
    """What an example stands in: what is there before it, and an expression that is true after it."""

    before: str
    after: str


_CGROUPS = "hierarchy('v2')\npid = child()\n"
_ROOTFS = "for name in {names!r}: Path('/rootfs', name).mkdir(parents=True)\n"
_TERMINAL = "pair = PseudoterminalPair.open(WindowSize(24, 80))\nos.dup2(pair.peer(), 0)\n"

RUN = {
    "impl/cgroups/birth.py": Around(
        _CGROUPS + "script('/usr/bin/worker', 'exec sleep 60')",
        "Path(f'/proc/{born.pid}/cgroup').read_text() == '0::/web/worker\\n'",
    ),
    "impl/cgroups/cgroup.py": Around(_CGROUPS, "not Path(layout.unified.mount_point, 'web/worker').exists()"),
    "impl/cgroups/devices/rules.py": Around("", "is_allowed(rules, Device('c', 1, 3), 'rw')"),
    "impl/graphdb/__init__.py": Around("", "printed == [['/web', '/web/db']]"),
    "impl/listenbuffer/__init__.py": Around(
        "clients = []\nload_everything = lambda: clients.append(socket.create_connection(('127.0.0.1', 8080)))",
        "peer[:2] == clients[0].getsockname()",
    ),
    "impl/mount/classic.py": Around(
        "Path('/myfile').touch()\nPath('/myotherfile').touch()", "not os.path.samefile('/myfile', '/myotherfile')"
    ),
    "impl/mount/context.py": Around("os.mkdir('/scratch')", "os.path.ismount('/scratch')"),
    "impl/mount/detached.py": Around(
        "os.makedirs('/srv/data')\nos.makedirs('/mnt/data')",
        "' /mnt/data ' in Path('/proc/self/mountinfo').read_text()",
    ),
    "impl/mount/fstab.py": Around(
        "Path('/etc/fstab').touch()", "'size=1g,nofail' in Path('/etc/fstab.new').read_text()"
    ),
    "impl/mount/idmapped.py": Around(
        "for name in ('/srv/rootfs', '/var/lib/container'): os.makedirs(name)\n"
        "mount('tmpfs', '/srv/rootfs', 'tmpfs', '')\nPath('/srv/rootfs/file').touch()",
        "os.stat('/var/lib/container/file').st_uid == 100000",
    ),
    "impl/mount/masks.py": Around(
        _ROOTFS.format(names=["proc/acpi", "sys/firmware"]) + "Path('/rootfs/proc/kcore').touch()",
        "os.path.ismount('/rootfs/sys/firmware')",
    ),
    "impl/mount/namespace.py": Around("", "not os.path.ismount('/mnt')"),
    "impl/mount/resolve.py": Around(
        "os.makedirs('/var/lib/rootfs/proc')", "Path('/var/lib/rootfs/proc/self').exists()"
    ),
    "impl/mount/tmpfs.py": Around(
        "os.makedirs('/rootfs/var')\nPath('/rootfs/var/file').touch()", "Path('/rootfs/var/file').exists()"
    ),
    "impl/netlink/classic.py": Around("", "Path('/sys/class/net/mydocker0/bridge').is_dir()"),
    "impl/netlink/ethtool.py": Around(
        "from kernelproof.impl.netlink import Rtnl\nwith Rtnl() as net:\n"
        "    net.link_add('veth0', 'veth', peer={'name': 'veth1'})\nother = Ethtool()",
        "('tx-checksum-ip-generic' in other.features('veth0').active, other.close()) == (False, None)",
    ),
    "impl/netlink/generic.py": Around("", "printed[0] > 0"),
    "impl/netlink/rtnl.py": Around("", "'10.0.41.1' in Path('/proc/net/fib_trie').read_text()"),
    "impl/netlink/topology.py": Around("", "not Path('/sys/class/net/br0').exists()"),
    "impl/term/modes.py": Around(_TERMINAL + "os.write(pair.master, b'x')", "key == b'x'"),
    "impl/term/pairs.py": Around("", "process.returncode == 0"),
    "impl/term/states.py": Around(_TERMINAL, "'ECHO' in str(printed)"),
    "impl/user/sources.py": Around(
        "os.makedirs('/container/etc')\nPath('/container/etc/passwd').write_text('ada:x:1000:1000::/:/bin/sh\\n')",
        "view.user('ada').uid == 1000",
    ),
    "vm/guest/snapshot_fixtures.py": Around(
        "import kernelproof\nbuild_a_costly_image = None", "image.__name__ == 'image'"
    ),
    "conformance/plugin.py": Around("", "test_name_length.pytestmark[0].args == ('bridge.limit.name-length',)"),
}

# Examples that are read only, and the names in them that are the reader's own.
READ = {
    "impl/cgroups/classic.py": {"pid", "cgroup"},
    "conformance/seen.py": {"seen", "first_line", "path", "mount", "target", "ask"},
    "impl/cgroups/events.py": {"cgroup"},  # these wait for what happens
    "impl/cgroups/oom.py": {"cgroup"},
    "impl/cgroups/pressure.py": {"cgroup"},
    "impl/mount/watching.py": set(),
    "impl/netlink/monitor.py": set(),
    "impl/netlink/tuntap.py": set(),
    "impl/cgroups/systemd/manager.py": {"pid"},  # wants systemd
    "impl/mount/overlays.py": set(),  # its folders' names may be those of a project
    "impl/mount/loop.py": set(),  # wants an image
    "impl/netlink/recorder.py": {"pathlib"},
    "impl/term/console.py": {"connection", "pair"},  # parts of programs
    "impl/term/copying.py": set(),
    "impl/term/__init__.py": set(),
    "impl/term/detach.py": {"data", "now"},
    "impl/term/packets.py": {"pair"},
    "impl/term/relay.py": {"master", "wait_for", "now"},
    "impl/user/credentials.py": {"container", "path"},
    "vm/forward_port.py": {"machine", "urllib"},  # of the host; docs/at-a-prompt.md has one that is run
    "vm/machine.py": set(),  # the README's
    "vm/template.py": set(),
}


def example_of(path: Path) -> str:
    """The code in a module's docstring, without prompts; an empty text where there is none."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    found = [textwrap.dedent(block) for block in BLOCK.findall(f"\n{text}\n")]
    parts = [part for block in found for part in ([block] if is_code(block) else block.split("\n\n"))]
    return "\n".join(part for part in parts if ">>>" not in part and is_code(part))


def is_code(text: str) -> bool:
    """Whether an indented block is a program, not a table of words that happens to be one."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in body)


def module_of(path: str) -> ModuleType:
    return importlib.import_module(
        "kernelproof." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    )


def names_for(path: str) -> dict[str, Any]:
    """What an example may name: all of its module, and what the package offers."""
    package = importlib.import_module("kernelproof." + "/".join(path.split("/")[:-1]).replace("/", "."))
    top = importlib.import_module("kernelproof." + ".".join(path.split("/")[:2]).removesuffix(".py"))
    offered = {name: getattr(it, name) for it in (top, package) for name in dir(it) if not name.startswith("__")}
    # A module's own word is meant before the package's, but for a system call below a function of that name.
    below = {name for name, it in vars(module_of(path)).items() if "_syscalls" in str(getattr(it, "__module__", ""))}
    own = {name: it for name, it in vars(module_of(path)).items() if name not in below & set(offered)}
    return {**offered, **own, "os": os, "socket": socket, "Path": Path, "Template": Template}


@pytest.fixture
def child() -> Iterator[Callable[[], int]]:
    """A process that only lives."""
    pids: list[int] = []

    def start() -> int:
        pids.append(os.fork())
        while pids[-1] == 0:
            signal.pause()
        return pids[-1]

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def script(path: str, text: str) -> None:
    """Put a shell script there."""
    Path(path).write_text(f"#!/bin/sh\n{text}\n")
    Path(path).chmod(0o755)


@pytest.mark.machine
@pytest.mark.parametrize("path", RUN)
def test_example_runs(
    path: str, hierarchy: Callable[..., Path], child: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example does in a fresh machine what it says: what it is for is so after it."""
    monkeypatch.chdir(tmp_path)
    printed: list[Any] = []
    own = {"hierarchy": hierarchy, "child": child, "script": script, "printed": printed}
    names = {**names_for(path), **own, "print": lambda *words: printed.extend(words), "__name__": "example"}
    around = RUN[path]
    for part, text in (("before", around.before), (path, example_of(ROOT / path))):
        exec(compile(text, part, "exec"), names)
    assert eval(compile(around.after, "after", "eval"), names)


@pytest.mark.parametrize("path", [*RUN, *READ])
def test_names_of_example_are_there(path: str) -> None:
    """Every name that an example uses is one of the package's or its own, and every keyword one that the call takes."""
    known = names_for(path)
    tree = ast.parse(example_of(ROOT / path))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    made = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    before = (
        {node.id for node in ast.walk(ast.parse(RUN[path].before)) if isinstance(node, ast.Name)}
        if path in RUN
        else set()
    )
    free = {node.id for node in nodes} - made - before - READ.get(path, set()) - set(dir(builtins)) - set(known)
    assert free - {"kernelproof"} == set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and callable(known.get(node.func.id)):
            taken = inspect.signature(known[node.func.id]).parameters
            if all(it.kind is not it.VAR_KEYWORD for it in taken.values()):
                assert {word.arg for word in node.keywords if word.arg} <= set(taken), node.func.id


def test_no_docstring_example_is_left_out() -> None:
    """Each module whose docstring has an example is run or read above; libcontainer's own tests run its examples.

    `_syscalls` is nobody's but the packages' beside it.
    """
    there = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if "tests" not in path.parts and not path.name.startswith("test_") and example_of(path)
    }
    assert {path for path in there if not path.startswith(("impl/libcontainer/", "impl/_syscalls/"))} == {*RUN, *READ}
