"""The command `kernelproof`: what it prints, its exit statuses, and that no failure shows a traceback."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

import kernelproof
from kernelproof.cli import completion, doctor, kernels, main, manual, setup
from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel import find_fetched
from kernelproof.vm.kernel_options import read_wanted
from kernelproof.vm.kernel_select import KernelRow, KernelTable, read_rows
from kernelproof.vm.tests.provision.images import make_kernel

TABLE = KernelTable(
    flavour="cloud-amd64",
    default="6.1",
    roles=(("oldest", "5.10"), ("newest", "6.1")),
    rows=(KernelRow("5.10", (("a-security",), ("a",)), "old"), KernelRow("6.1", (("b",),), "new")),
)
FACTS = doctor.Facts(
    system="Linux",
    processor="x86_64",
    is_root=False,
    qemu=(10, 0, 2),
    apt=True,
    apt_problem=None,
    cache=Path("/cache"),
    cache_writable=True,
    cache_free_bytes=50_000_000_000,
    memory_bytes=8 << 30,
    memory_needed_bytes=2 << 30,
    kvm="absent",
    distribution="Debian",
    tried=True,
)
PROBLEM = ProvisionError("read", "/etc/apt", "no sources", "add one")


def states(**changes: Any) -> dict[str, str]:
    return {check.check: check.state for check in doctor.judge(FACTS._replace(**changes))}


def remedies(**changes: Any) -> list[str]:
    return [check.remedy for check in doctor.judge(FACTS._replace(**changes)) if check.state == "missing"]


# --- the frame ---------------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints name and version."""
    with pytest.raises(SystemExit) as caught:
        main.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"kernelproof {kernelproof.__version__}\n"


@pytest.mark.parametrize("words", [[], ["nonsense"], ["kernels", "--nonsense"], ["clean", "everything"]])
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is refused with status 2 and a usage line."""
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: kernelproof")


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each sub-command explains itself."""
    with pytest.raises(SystemExit) as caught:
        main.main([name, "--help"])
    assert caught.value.code == 0
    assert main.COMMANDS[name][1:40] in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ProvisionError("fetch", "kernel", "gone", "wait"), 1, "kernelproof: fetch: kernel: gone\n  remedy: wait\n"),
        (OSError(28, "No space left on device", "/x"), 1, "kernelproof: /x: No space left on device\n  remedy: "),
        (OSError(18, "Cross-device link", "/x", None, "/y"), 1, "kernelproof: /x -> /y: Cross-device link\n"),
        (KeyboardInterrupt(), 130, "kernelproof: interrupted\n"),
    ],
)
def test_failures_are_sentences(
    error: BaseException, status: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a sub-command could not do is told with its remedy, and the exit status says what kind it was."""

    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(kernels, "run", fail)
    assert main.main(["kernels"]) == status
    assert capsys.readouterr().err.startswith(text)


def test_defects_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is not made to look like one that was."""

    def fail(_: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(kernels, "run", fail)
    with pytest.raises(ZeroDivisionError):
        main.main(["kernels"])


def test_reader_that_went_away() -> None:
    """`kernelproof kernels | head -0` says nothing on standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "kernelproof.cli", "kernels"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_interrupt() -> None:
    """Ctrl-C ends it with status 130 and one line."""
    program = (
        "import os, select, signal, sys, kernelproof.cli.kernels as k, kernelproof.cli.main as m\n"
        "from kernelproof.vm.tests.interruptible import listen\n"
        "listen()\n"
        "reading, writing = os.pipe2(os.O_NONBLOCK)\n"
        "signal.set_wakeup_fd(writing)  # a signal that comes right before the wait ends it too\n"
        "k.run = lambda arguments: (print('waits', flush=True), select.select([reading], [], []))\n"
        "sys.exit(m.main(['kernels']))\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "kernelproof: interrupted\n")


def test_a_light_command_loads_little() -> None:
    """Printing the kernels loads nothing that only machines need."""
    program = (
        "import sys; from kernelproof.cli.main import main; main(['kernels'])\n"
        "print(*{'asyncio', 'rich', 'pytest', 'multiprocessing'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "\n"


# --- kernels -----------------------------------------------------------------------------------------------------


def test_kernel_rows() -> None:
    """Each series has one row with its roles, the default among them."""
    common = {"distribution": "debian"}
    assert kernels.plan_rows(TABLE, {"6.1": "6.1.7"}) == [
        {**common, "series": "5.10", "roles": ["oldest"], "fetched": "", "suites": ["a-security", "a"], "why": "old"},
        {**common, "series": "6.1", "roles": ["newest", "default"], "fetched": "6.1.7", "suites": ["b"], "why": "new"},
    ]


def test_kernels_as_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The table and the JSON hold the same rows."""
    assert main.main(["kernels"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert main.main(["kernels", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert table[0].split() == ["SERIES", "ROLES", "FETCHED", "SUITES", "WHY"]
    assert [line.split()[0] for line in table[1:]] == [row["series"] for row in rows]


def test_kernels_of_every_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """`--all` lists other distributions' rows, this one's first, and says which of them nobody has tried."""
    assert main.main(["kernels", "--all", "--json"]) == 0
    output = capsys.readouterr()
    names = [row["distribution"] for row in json.loads(output.out)]
    assert (names[0], set(names)) == (read_rows().distribution, {"debian", "ubuntu"})
    assert "note: Ubuntu: not tried by us" in output.err
    assert "Debian" not in output.err


def test_fetched_kernels(tmp_path: Path) -> None:
    """The newest build of each series that is in the cache is told; own kernels and torn entries are passed over."""
    for name, facts in (
        ("a", {"series": "6.1", "build": "6.1.9-1", "release": "6.1.9"}),
        ("b", {"series": "6.1", "build": "6.1.10-1", "release": "6.1.10"}),
        ("c", {"own": "6.2"}),
        ("d", None),
    ):
        folder = tmp_path / "v1/kernel" / name
        folder.mkdir(parents=True)
        (folder / "facts.json").write_text("torn" if facts is None else json.dumps(facts))
    assert find_fetched(Cache(tmp_path)) == {"6.1": "6.1.10"}


# --- doctor ------------------------------------------------------------------------------------------------------


def test_healthy_machine() -> None:
    """Where all is there, nothing is missing."""
    assert states() == {"host": "ok", "qemu": "ok", "packages": "ok", "cache": "ok", "memory": "ok", "kvm": "note"}


@pytest.mark.parametrize(
    ("changes", "check", "state"),
    [
        ({"processor": "aarch64"}, "host", "missing"),
        ({"system": "Darwin"}, "host", "missing"),
        ({"qemu": None, "is_root": True}, "qemu", "note"),
        ({"qemu": None}, "qemu", "note"),
        ({"qemu": (5, 2, 0)}, "qemu", "note"),
        ({"qemu": None, "apt": False}, "qemu", "missing"),
        ({"qemu": PROBLEM}, "qemu", "missing"),
        ({"apt_problem": PROBLEM}, "packages", "missing"),
        ({"cache_writable": False}, "cache", "missing"),
        ({"cache_free_bytes": doctor.CACHE_BYTES - 1}, "cache", "missing"),
        ({"memory_bytes": (2 << 30) - 1}, "memory", "missing"),
        ({"kvm": "refused"}, "kvm", "note"),
        ({"distribution": "Ubuntu", "tried": False}, "packages", "note"),
    ],
)
def test_one_thing_missing(changes: dict[str, Any], check: str, state: str) -> None:
    """Each lack shows in its own row and no other, and what is missing has a remedy."""
    assert states(**changes) == {**states(), check: state}
    assert all(remedies(**changes))


def test_doctor_reads_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """It looks without network and without a machine, and its status says whether something is missing."""
    status = main.main(["doctor", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["check"] for row in rows] == ["host", "qemu", "packages", "cache", "memory", "kvm"]
    assert status == int(any(row["state"] == "missing" for row in rows))


@pytest.mark.parametrize(("made", "mode", "expected"), [(False, 0, "absent"), (True, 0o600, "usable")])
def test_kvm_device(made: bool, mode: int, expected: str, tmp_path: Path) -> None:
    """The device is looked for and tried for access, nothing more."""
    if made:
        (tmp_path / "kvm").touch(mode)
    assert doctor.read_kvm(tmp_path / "kvm") == expected


# --- clean -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an entry of this and of an older format, and a file of somebody else's."""
    root = tmp_path / "cache"
    for name in ("v1/kernel/a/vmlinux", "v0/old", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(1_000_000))
    monkeypatch.setenv("KERNELPROOF_CACHE", str(root))
    return root


def test_clean_all_removes_every_format_and_nothing_else(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Entries of all formats go, a line a kind; what others keep beside them stays."""
    assert main.main(["clean", "--all"]) == 0
    assert [path.name for path in cache.iterdir()] == ["notes.txt"]
    table = capsys.readouterr().out.splitlines()
    assert [line.split() for line in table[:-1]] == [
        ["KIND", "NUMBER", "MEGABYTES"],
        ["format", "1", "1.0"],
        ["kernel", "1", "1.0"],
    ]
    assert table[-1] == f"removed 2 MB from {cache}"


def test_clean_dry_run(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--dry-run` tells the same size and removes nothing."""
    assert main.main(["clean", "--all", "--dry-run"]) == 0
    assert (cache / "v1/kernel/a/vmlinux").exists()
    assert capsys.readouterr().out.endswith(f"would remove 2 MB from {cache}\n")


def test_clean_removes_what_is_old(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--all` what another version made goes, and what is of use stays."""
    assert main.main(["clean", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"kind": "format", "number": 1, "megabytes": 1.0}]
    assert sorted(path.name for path in cache.iterdir()) == ["notes.txt", "v1"]


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "many"])
def test_clean_days(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Days are a number, not below zero."""
    with pytest.raises(SystemExit) as caught:
        main.main(["clean", f"--days={days}"])
    assert caught.value.code == 2
    assert "invalid read_days value" in capsys.readouterr().err


def test_clean_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A cache that was never made is cleaned without complaint."""
    monkeypatch.setenv("KERNELPROOF_CACHE", str(tmp_path / "none"))
    for words in ([], ["--all"]):
        assert main.main(["clean", *words]) == 0
        assert capsys.readouterr().out.startswith("removed 0 MB")


def test_clean_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What can't be removed is named."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path / "v1"))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert main.main(["clean", "--all"]) == 1
    assert "v1: Permission denied\n  remedy: remove it by hand" in capsys.readouterr().err
    assert not (cache / "v1/kernel").exists()  # moved aside all the same: the next clean finds it


# --- setup -------------------------------------------------------------------------------------------------------


class FakeTemplate:
    """Stands for the real one: remembers what was asked for."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012 (emptied by the fixture)
    error: ProvisionError | None = None
    refused = ""

    def __init__(self, kernel: str, *, profile: str, **_: object) -> None:
        self.asked.append((kernel, profile))
        self.kernel = kernel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass

    def clone(self) -> Self:
        if self.kernel == self.refused:
            raise ProvisionError("find kernel", self.kernel, "gone", "choose another")
        if self.error is not None:
            raise self.error
        return self

    def close(self) -> None:
        pass

    @property
    def facts(self) -> dict[str, dict[str, object]]:
        release, package = f"{self.kernel}.9", "linux-image"
        kernel: dict[str, object] = {"name": self.kernel, "release": release, "package": package, "build": "1"}
        return {"kernel": kernel, "machine": {"accelerator": "tcg"}}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeTemplate]:
    """setup with machines that are none."""
    FakeTemplate.asked = []
    FakeTemplate.error = None
    FakeTemplate.refused = ""
    monkeypatch.setattr(setup, "Template", FakeTemplate)
    monkeypatch.setenv("KERNELPROOF_CACHE", str(tmp_path))
    return FakeTemplate


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], [("6.12", "plain")]),
        (["oldest", "6.1"], [("5.10", "plain"), ("6.1", "plain")]),
        (["6.1", "--profile", "plain"], [("6.1", "plain")]),
    ],
)
def test_setup_makes_what_is_named(words: list[str], asked: list[tuple[str, str]], fake: type[FakeTemplate]) -> None:
    """Each named kernel is fetched and booted once, the default one if none is named."""
    assert main.main(["setup", "-q", *words]) == 0
    assert fake.asked == asked


def test_setup_prints_what_there_is_now(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output holds one row a kernel."""
    assert main.main(["setup", "-q", "--json", "6.1"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "6.1", "release": "6.1.9", "package": "linux-image", "build": "1", "accelerator": "tcg"}
    ]


def test_setup_of_unknown_kernel(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that is not known is refused before anything is fetched, with what there is."""
    assert main.main(["setup", "2.6"]) == 1
    assert "5.10, 6.1, 6.12" in capsys.readouterr().err
    assert fake.asked == []


def test_setup_that_fails(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """What could not be had is told with its remedy, and no table is printed."""
    fake.error = ProvisionError("fetch kernel", "linux-image", "404", "wait for the mirror")
    assert main.main(["setup", "-q"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "fetch kernel: linux-image: 404\n  remedy: wait for the mirror" in output.err


def test_setup_all(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """`--all` sets up every kernel of the table; a kernel that is gone is told and left out."""
    fake.refused = "6.1"
    assert main.main(["setup", "--all", "--json"]) == 0
    assert [kernel for kernel, _ in fake.asked] == [row.series for row in read_rows().rows]
    output = capsys.readouterr()
    assert "6.1" not in [row["name"] for row in json.loads(output.out)]
    assert "note: kernel 6.1 left out: find kernel: 6.1: gone" in output.err


def test_setup_all_without_any(fake: type[FakeTemplate], capsys: pytest.CaptureFixture[str]) -> None:
    """Where no kernel could be had it is a failure."""
    fake.error = ProvisionError("fetch package index", "trixie", "no network", "connect")
    assert main.main(["setup", "-q", "all"]) == 1
    assert "no network" in capsys.readouterr().err


def test_setup_of_an_own_kernel(fake: type[FakeTemplate], tmp_path: Path) -> None:
    """An image is set up alone, or behind the kernels that are named."""
    image = tmp_path / "bzImage"
    image.write_bytes(make_kernel())
    assert main.main(["setup", "-q", "--kernel-image", str(image)]) == 0
    assert main.main(["setup", "-q", "6.12", "--kernel-image", str(image)]) == 0
    names = [kernel for kernel, _ in fake.asked]
    assert names == ["image-9.1.7-own", "6.12", "image-9.1.7-own"]


def test_doctor_of_an_own_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option that is missing comes with the line to set; only what is needed makes the status 1."""
    image = tmp_path / "vmlinuz"
    image.write_bytes(make_kernel())
    assert main.main(["doctor", "--kernel-image", str(image)]) == 0
    assert "not known" in capsys.readouterr().out
    config = "".join(f"CONFIG_{row.option}=y\n" for row in read_wanted() if row.option != "PVH")
    (tmp_path / "config-9.1.7-own").write_text(config)
    assert main.main(["doctor", "--kernel-image", str(image)]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["STATE", "CHECK"],
        ["ok", "image"],
        ["note", "modules"],
        ["ok", "configuration"],
        ["note", "CONFIG_PVH"],
    ]
    (tmp_path / "config-9.1.7-own").write_text(config.replace("CONFIG_TMPFS=y", ""))
    assert main.main(["doctor", "--kernel-image", str(image), "--json"]) == 1
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["CONFIG_TMPFS"]["state"] == "missing"
    assert rows["CONFIG_TMPFS"]["set"] == "CONFIG_TMPFS=y"
    assert rows["CONFIG_NET"]["state"] == "ok"


def test_setup_refresh_forgets_choices(fake: type[FakeTemplate], tmp_path: Path) -> None:
    """`--refresh` lets packages be chosen anew; without it the choice stands."""
    choice = tmp_path / "v1/choices/kernel-x"
    choice.parent.mkdir(parents=True)
    choice.touch()
    assert main.main(["setup", "-q"]) == 0
    assert choice.exists()
    assert main.main(["setup", "-q", "--refresh"]) == 0
    assert not choice.exists()


# --- completion and the manual page ------------------------------------------------------------------------------


VALUES = {"kernel": lambda: ["5.10", "6.1", "6.12", "newest", "all"], "profile": lambda: ["plain", "disk"]}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [*main.COMMANDS, "--help", "--version"]),
        (["se"], ["setup"]),
        (["run", "--kernel", "6"], ["6.1", "6.12"]),
        (["run", "--kernel", "5.10,n"], ["5.10,newest"]),
        (["setup", "new"], ["newest"]),
        (["setup", "--profile", ""], ["plain", "disk"]),
        (["run", "--pull"], ["--pull", "--pull-to"]),
        (["run", "--forward", ""], []),
        (["run", "--kernel", "6.1", "--", "--k"], []),
        (["completion", ""], ["bash", "zsh", "fish", "words"]),
        (["nonsense", ""], []),
    ],
    ids=lambda value: "-".join(value) if value and len(value) < 5 else None,
)
def test_words_that_complete(words: list[str], expected: list[str]) -> None:
    """Commands, options, kernels, profiles and choices complete; what belongs to the program does not."""
    assert completion.complete(words, VALUES) == expected


def test_completion_in_bash(tmp_path: Path) -> None:
    """bash completes with the script that is printed for it."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("not applicable: no bash here")
    command = tmp_path / "kernelproof"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kernelproof.cli "$@"\n')
    command.chmod(0o755)
    script = """
    eval "$(kernelproof completion bash)"
    COMP_WORDS=(kernelproof shell --kernel 5.1) COMP_CWORD=3
    _kernelproof
    printf '%s|' "${COMPREPLY[@]}"
    complete -p kernelproof
    """
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run([bash, "-c", script], env={**os.environ, "PATH": path}, capture_output=True, check=True)
    assert done.stdout.startswith(b"5.10|complete")
    assert done.stderr == b""


def test_completed_words_are_real(capsys: pytest.CaptureFixture[str]) -> None:
    """Kernels and profiles are those that there are."""
    assert main.main(["completion", "words", "--", "run", "--kernel", ""]) == 0
    words = capsys.readouterr().out.split()
    assert {row.series for row in read_rows().rows} | {"oldest", "stable", "newest", "all"} == set(words)
    assert main.main(["completion", "words", "--", "run", "--profile", ""]) == 0
    assert {"plain", "disk", "systemd"} <= set(capsys.readouterr().out.split())


def test_manual_page() -> None:
    """The manual page is that of the command line."""
    page = Path(__file__).parent.parent / "docs" / "kernelproof.1"
    assert page.read_text("utf-8") == manual.format_manual(), "python -m kernelproof.cli.manual > docs/kernelproof.1"


def test_manual_page_can_be_set() -> None:
    """groff has nothing to say against the manual page."""
    if (groff := shutil.which("groff")) is None:
        pytest.skip("not applicable: no groff here")
    text = manual.format_manual().encode()
    done = subprocess.run([groff, "-man", "-Tascii", "-ww", "-b"], input=text, capture_output=True, check=True)
    assert done.stderr == b""
