"""A small suite with every outcome and a hostile guest, its report, and a browser where there is one."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kernelproof.cli import main
from kernelproof.conformance.catalogue import read_catalogue

HERE = Path(__file__).parent
EVIL = "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[2J\x00\u202e"
CATALOGUE = {
    "link": """
[[behaviour]]
id = "link.name.length"
statement = "A name of 16 bytes is <refused> & 'told'."
source = "netdevice(7), DESCRIPTION"
needs = ["CAP_NET_ADMIN"]
note = "The limit counts the NUL."
since = "2.6"

[[behaviour]]
id = "link.name.up"
statement = "A device that is up can't be renamed."
source = "netdevice(7), SIOCSIFNAME"
[[behaviour.deviations]]
kernels = ">=6.2"
seen = ["no error"]
witness = "witnesses/rename.py"
reason = "dev_change_name() in net/core/dev.c takes it since Linux 6.2, commit bd039b5ea2a9."

[[behaviour]]
id = "link.mtu.huge"
statement = "A huge MTU is refused."
source = "rtnetlink(7)"
""",
    "mount": """
[[behaviour]]
id = "mount.beneath.new"
statement = "A mount can be put beneath another."
source = "move_mount(2)"
kernels = ">=6.5"

[[behaviour]]
id = "mount.flags.old"
statement = "An old flag of /proc/sys/a/path/without/any/place/where/it/could/be/broken/into/lines is ignored."
source = "mount(2)"

[[behaviour]]
id = "mount.flags.planned"
statement = "Nobody has tested this one."
source = "mount(2), NOTES"
suspected = "6.1: EINVAL"
""",
}
TESTS = '''"""Tests."""


@behaviour("link.name.length")
def test_name(kernel: str) -> None:
    """A name of 16 bytes is refused."""
    assert "<b>" in kernel


@behaviour("link.name.up", subject="impl")
def test_up() -> None:
    """One that is up is not renamed."""


@behaviour("link.name.up", subject="runc")
def test_up_beside() -> None:
    """Neither by a peer."""


class TestOthers:
    @behaviour("link.mtu.huge")
    def test_mtu(self) -> None:
        """Too big."""


@behaviour("mount.beneath.new")
def test_beneath() -> None:
    """It lies beneath."""


@behaviour("mount.flags.old")
def test_old() -> None:
    """It is ignored."""
'''


def row(behaviour: str, outcome: str = "pass", **changes: Any) -> dict[str, Any]:
    """A row of a results file."""
    made = {
        **{"behaviour": behaviour, "node": f"suite/test_all.py::test_{behaviour}", "profile": "plain"},
        **{"subject": "impl", "outcome": outcome, "clone": "0" * 32, "wall_seconds": 0.25, "guest_seconds": 1.5},
        "reason": None if outcome == "pass" else "so it is",
        **{"seen": ["no error"] if outcome == "deviation" else None, "log": None},
    }
    return {**made, **changes}


class Suite:
    """A project with a catalogue, tests, a witness and results, in the working directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
        for folder in ("suite/behaviours", "suite/witnesses", "results"):
            (path / folder).mkdir(parents=True)
        for name, text in CATALOGUE.items():
            (path / f"suite/behaviours/{name}.toml").write_text(text)
        (path / "suite/test_all.py").write_text(TESTS)
        (path / "suite/witnesses/rename.py").write_text('"""Prints it."""\n\nprint(["no error"])  # <b>\n')
        self.digest = read_catalogue([path / "suite/behaviours"]).digest

    def document(self, kernel: str, *rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """A results file's content."""
        made = {
            **{"schema": 1, "project": {"version": "0", "commit": "a" * 40, "dirty": False}},
            "catalogue": {"digest": self.digest},
            "kernel": {
                **{"name": kernel, "series": "6.1", "release": f"{kernel}.9", "package": "p", "build": "b"},
                "config_digest": None,
            },
            "guest": {"root_digest": None, "python": "3.13", "observers": {"pyroute2": "0.9"}},
            "machine": {"qemu": "10.0", "accelerator": "tcg", "time": "virtual", "cpus": 2},
            **{"selection": [], "complete": True, "results": list(rows)},
        }
        return {**made, **changes}

    def write(self, kernel: str, *rows: dict[str, Any], **changes: Any) -> Path:
        """Write results of a kernel."""
        path = self.path / f"results/{kernel}.json"
        path.write_text(json.dumps(self.document(kernel, *rows, **changes)))
        return path

    def write_all(self) -> None:
        """Three kernels, every outcome, a guest that lies."""
        names = ("link.name.length", "link.name.up", "link.mtu.huge", "mount.flags.old")
        self.write("5.10", *map(row, names))
        peer = row("link.name.up", "fail", subject="runc", reason="runc: otherwise")
        self.write("6.1", row(names[0]), row(names[1]), peer, row(names[2], "not_applicable"), row(names[3]))
        log = "\n".join(["[    1.0] first line", *(f"[    2.{number}] {EVIL}" for number in range(80))])
        self.write(
            "6.12",
            row(names[0], "fail", reason=f"AssertionError: {EVIL}\nmore", log=log, node=f"t.py::test_name[{EVIL}]"),
            row(names[0], node="t.py::test_name[fine]"),
            row(names[1], "deviation"),
            row(names[2], "broken", reason="machine lost", log=EVIL),
            row(names[3], profile=EVIL),
            row("mount.beneath.new"),
            guest={"root_digest": None, "python": EVIL, "observers": {EVIL: EVIL}},
        )

    def report(self, *words: str, results: str = "results") -> int:
        """Make the report into `site`."""
        return main.main(["report", results, "-o", "site", "--behaviours", "suite/behaviours", *words])

    def read(self, name: str) -> str:
        """A file of the report."""
        return (self.path / "site" / name).read_text("utf-8")


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The suite without results, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return Suite(tmp_path)


@pytest.fixture
def site(suite: Suite) -> Suite:
    """The suite with three kernels and their report."""
    suite.write_all()
    assert suite.report("-q") == 0
    return suite


@pytest.fixture(scope="session")
def shown_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report that nobody changes."""
    made = Suite(tmp_path_factory.mktemp("shown"))
    made.write_all()
    before = Path.cwd()
    os.chdir(made.path)
    try:
        assert made.report("-q") == 0
    finally:
        os.chdir(before)
    return made.path / "site"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium, started once; skipped with the reason where there is none."""
    spec = importlib.util.spec_from_file_location("kernelproof_browser", HERE / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernelproof_browser"] = module
    spec.loader.exec_module(module)
    program = module.find_browser()
    if program is None:
        pytest.skip("no Chromium: `python3 start.py report` fetches one, KERNELPROOF_BROWSER names one")
    with module.Browser(program) as found:
        yield found


@pytest.fixture
def open_page(browser: Any, shown_site: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page of the report, by its address below the folder."""
    with ExitStack() as stack:

        def open_it(address: str, **view: Any) -> Any:
            page = stack.enter_context(browser.page(**view))
            page.go(f"{shown_site.as_uri()}/{address}")
            return page

        yield open_it
