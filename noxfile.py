"""The menu: one session a thing that can be run. `python3 start.py NAME [arguments]` sets up and runs one.

All sessions share the environment `.venv`, which start.py makes from requirements.lock and leaves alone while that is
unchanged. So nox makes none of its own; a session that is run by a nox from elsewhere asks start.py for it first.
"""

import os
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["tests"]

DEFAULT_KERNEL = "6.12"
UNIT_AND_MACHINE = ("vm/tests", "tests", "impl/tests")  # the long ones first: short ones fill what is left at the end
MACHINE = "machine or makes_machines"  # those that run in one, and those of the host that make some
UNIT = f"not ({MACHINE})"
# Two workers that begin at different places seldom wait for the same template, and none is idle at the end.
WORKERS = ("-n", "auto", "--dist", "worksteal")
CHECKED = (DEFAULT_KERNEL, "oldest", "newest")  # the kernels of `tests`
# Hundreds of processes import the same files, whatever the shell says of bytecode: a worker collects in a third of the
# time that it takes when each compiles them and rewrites their assertions.
KEEP_BYTECODE = {"PYTHONDONTWRITEBYTECODE": None}
SLOWEST = ("--durations", "25", "--durations-min", "2")  # a suite that gets slow is a defect: said at each end


def run(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program of `.venv`; after Ctrl-C it has a minute to end its machines."""
    command = f".venv/bin/{program}"
    session.run(command, *arguments, env=KEEP_BYTECODE, external=True, interrupt_timeout=60, terminate_timeout=10)


def set_up(session: nox.Session) -> None:
    """Make `.venv` fit the lock file: nothing to do after start.py."""
    session.run("python3", "start.py", "--set-up", external=True, log=False)


def run_lint(session: nox.Session) -> None:
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")


def run_types(session: nox.Session) -> None:
    run(session, "mypy", "-p", "kernelproof")
    # Folders that import their own files by bare names are looked at one by one.
    apart = "^tests/(conformance|mutants|report)/"
    run(session, "mypy", "start.py", "noxfile.py", "conftest.py", "tests", "--exclude", apart)
    run(session, "mypy", "tests/conformance")
    run(session, "mypy", "tests/mutants")
    run(session, "mypy", "tests/report")
    run(session, "mypy", "benchmarks")


@contextmanager
def meanwhile(session: nox.Session, *words: str) -> Iterator[None]:
    """Meanwhile `kernelproof setup` makes machines of all kinds ready, by the processor that is idle now and then.

    What could not be had is no failure here: the first test that wants it says so.
    """
    profiles = tomllib.loads(Path("vm/profiles.toml").read_text("utf-8"))
    command = [".venv/bin/kernelproof", "setup", *words]
    for profile in profiles:
        command += ["--profile", profile]
    with tempfile.TemporaryFile() as said:
        maker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            yield
            maker.wait()
        finally:
            maker.terminate()
            maker.wait()
            said.seek(0)
            session.log("meanwhile, %s …:\n%s", " ".join(command[:6]), said.read().decode("utf-8", "replace"))


def run_early(session: nox.Session) -> None:
    """What needs no machine."""
    run_lint(session)
    run_types(session)
    run(session, "python", "-m", "pytest", *UNIT_AND_MACHINE, "-m", UNIT, *WORKERS, *SLOWEST)


def run_behaviours(session: nox.Session, *arguments: str) -> None:
    """Run pytest on the behaviours; `--quick`: one statement in each topic."""
    own_path = any(argument.startswith("conformance/") for argument in arguments)
    paths = () if own_path else ("conformance",)
    words = ["--behaviours=quick" if argument == "--quick" else argument for argument in arguments]
    run(session, "python", "-m", "pytest", *paths, *default_kernel(words), *words)


def default_kernel(words: Sequence[str]) -> tuple[str, ...]:
    """The option for the default kernel, where the words name none: several would add up."""
    return () if any(word.partition("=")[0] == "--kernel" for word in words) else ("--kernel", DEFAULT_KERNEL)


@nox.session
def tests(session: nox.Session) -> None:
    """Lint, types, unit tests, machine tests, all behaviours, a quick round on the oldest and newest kernel.

    `--smoke`: lint, types, unit tests and one machine.
    """
    smoke = session.posargs == ["--smoke"]
    if session.posargs and not smoke:
        session.error(f"tests takes --smoke or nothing, not {' '.join(session.posargs)}: name the session you mean")
    set_up(session)
    if smoke:
        run_early(session)
        run_behaviours(session, "-k", "mydocker0")
        return
    # Half of the processors are idle while types are looked at, and all but one while the first machine boots.
    with meanwhile(session, DEFAULT_KERNEL):
        with meanwhile(session, "--fetch-only", *CHECKED):
            run_early(session)
        # A tenth of the time somebody waits for a clock, a lock or a disc: one more than there are processors.
        workers = ("-n", str(len(os.sched_getaffinity(0)) + 1), "--dist", "worksteal")
        machine = ("-m", MACHINE, *workers, *SLOWEST, "--kernel", DEFAULT_KERNEL)
        run(session, "python", "-m", "pytest", *UNIT_AND_MACHINE, *machine)
    # Other runtimes beside ours tell something about them, not about this repository.
    run_behaviours(session, "--no-peers", *WORKERS, *SLOWEST)
    run_behaviours(session, "--quick", "--no-peers", "--kernel", "oldest,newest", *WORKERS)


@nox.session
def conformance(session: nox.Session) -> None:
    """Every behaviour that has a test, each in a machine of its own; takes --quick, --kernel, pytest's arguments."""
    set_up(session)
    run_behaviours(session, *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """All behaviours on all kernels."""
    set_up(session)
    run_behaviours(session, "--kernel", "all", *WORKERS, *session.posargs)


@nox.session
def long(session: nox.Session) -> None:
    """What is marked long (fuzzing, kills, races, cycles), at full numbers instead of a hundredth of them."""
    set_up(session)
    run(session, "python", "-m", "pytest", "-m", "long", "--long", *default_kernel(session.posargs), *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Figures against their limits, on an idle machine: clone and start_up, or those named (--list shows them).

    `--fresh` measures a first run too, `--virtme` a peer that boots for each test.
    """
    set_up(session)
    there = sorted(
        path.stem for path in Path("benchmarks").glob("*.py") if 'if __name__ == "__main__"' in path.read_text()
    )
    if "--list" in session.posargs:
        session.log("figures: %s", " ".join(there))
        return
    words = [word for word in session.posargs if not word.startswith("-")]
    if unknown := sorted(set(words) - set(there)):
        session.error(f"no figures called {' '.join(unknown)}; there are {' '.join(there)}")
    names = words or ["clone", "start_up", *(["virtme"] if "--virtme" in session.posargs else [])]
    for name in names:
        fresh = ["--fresh"] if name == "start_up" and "--fresh" in session.posargs else []
        run(session, "python", f"benchmarks/{name}.py", *fresh)


@nox.session
def report(session: nox.Session) -> None:
    """The report's pages in a real browser, with axe, and its figures; fetches Chromium and axe-core if need be."""
    set_up(session)
    told = session.run(".venv/bin/python", "tests/report/fetch_browser.py", external=True, silent=True)
    lines = [line.partition("=") for line in str(told).splitlines() if line.startswith("KERNELPROOF_")]
    session.env.update({name: value for name, _, value in lines})
    run(session, "python", "-m", "pytest", "tests/report", *session.posargs)
    run(session, "python", "benchmarks/report_figures.py")


@nox.session
def mutants(session: nox.Session) -> None:
    """Break `impl` in small ways and list what no test notices; `--hollow`: empty what each behaviour's test calls."""
    set_up(session)
    run(session, "python", "tests/mutants/run.py", *session.posargs)


@nox.session
def fresh(session: nox.Session) -> None:
    """The README's commands in a minimal root, as root and as a user, and without network (needs root)."""
    set_up(session)
    run(session, "python", "tests/fresh_machine.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes (ruff)."""
    set_up(session)
    run_lint(session)


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly (mypy)."""
    set_up(session)
    run_types(session)


@nox.session(venv_backend="virtualenv")
def docs(session: nox.Session) -> None:
    """The documentation site in build/docs, warnings as errors; the CI files of its example against their schemas."""
    session.install("--only-binary=:all:", "--require-hashes", "-r", "docs/requirements.lock")
    session.run("python", "-m", "sphinx", "-q", "-b", "html", "-W", "--keep-going", "docs", "build/docs")
    for schema, name in (("github-workflows", ".github/workflows/kernels.yml"), ("gitlab-ci", ".gitlab-ci.yml")):
        transform = ("--data-transform", "gitlab-ci") if schema == "gitlab-ci" else ()
        path = f"docs/example/{name}"
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *transform, path)
    plugins = ("-p", "kernelproof.vm.plugin", "-p", "kernelproof.conformance.plugin")  # not installed there
    session.run("python", "-m", "pytest", *plugins, "tests/test_doc_commands.py", "-k", "are_yaml", "-q")
    session.log("open build/docs/index.html")


@nox.session(venv_backend="virtualenv")
def lock(session: nox.Session) -> None:
    """Resolve the dependencies anew into requirements.lock and docs/requirements.lock, with hashes (asks the index)."""
    session.install("uv==0.13.9")
    resolve = (
        *("uv", "pip", "compile", "--universal", "--python-version", "3.11", "--quiet", "--only-binary", ":all:"),
        *("--generate-hashes", "--upgrade", "--no-annotate", "--no-emit-index-url", *session.posargs),
    )
    development = ("pyproject.toml", "--all-extras", "--group", "development", "--output-file", "requirements.lock")
    site = ("docs/requirements.in", "--output-file", "docs/requirements.lock")
    for what in (development, site):
        session.run(*resolve, *what, env={"UV_CUSTOM_COMPILE_COMMAND": "python3 start.py lock"})
