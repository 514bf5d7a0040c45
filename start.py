"""Set this checkout up and run one of its sessions: `python3 start.py NAME [arguments]`.

Makes `.venv` from `requirements.lock` by the first road that works on this machine, then runs the session of
`noxfile.py`. Standard library only, nothing installed into the system, no root needed. Its syntax stays that of
Python 3.6, so that an older Python reads the sentence that says what is wanted.
"""

import ast
import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Dict, Iterable, List, NamedTuple, NoReturn, Optional, Tuple

MINIMUM = (3, 11)
ROOT = Path(__file__).resolve().parent
BASE: str = getattr(sys, "_base_executable", sys.executable)  # Python itself, where this one is a virtual environment's
Environment = Dict[str, str]
STAMP = "kernelproof-stamp"
LOCKED = ("--only-binary=:all:", "--require-hashes", "-r", "requirements.lock")
LINKED = ("--no-build-isolation", "--no-index", "-e", ".")  # this checkout, by the build backend that is among those

USAGE = """usage: python3 start.py SESSION [arguments]
       python3 start.py --set-up

Makes .venv from requirements.lock if it does not fit it yet, then runs a session of noxfile.py:
"""


class Failure(Exception):
    """What ends the set-up: the step, its object, what was seen, and the remedy."""

    def __init__(self, step: str, subject: str, seen: str, remedy: str) -> None:
        super().__init__(f"{step}: {subject}: {seen}\n  remedy: {remedy}")
        self.seen = seen


class Facts(NamedTuple):
    """What this machine has for making a virtual environment."""

    ensurepip: bool  # `python -m venv` can bring pip by itself
    module: bool  # this Python has pip as a module
    wheel: str  # the distribution's pip, unpacked by nobody: WHEEL/pip can be run; empty where there is none
    apt: bool  # apt-get and dpkg-deb, to fetch that


class Road(NamedTuple):
    """One way to a pip that installs into `.venv`; `wheel` where the pip is known by path."""

    kind: str  # bundled, module, wheel, apt
    words: str
    wheel: str = ""


class Source(NamedTuple):
    """One suite of one apt source, of those that this machine trusts by signature."""

    uri: str
    suite: str
    components: Tuple[str, ...]
    signed_by: str  # a keyring's path or an embedded key; empty: apt's trusted folder
    check_valid_until: str  # as the source says: yes, no or empty


# --- decide: pure ---------------------------------------------------------------------------------------------


def plan_roads(facts: Facts) -> Tuple[Road, ...]:
    """The roads that this machine offers, cheapest first."""
    bare = "python -m venv --without-pip, then"
    roads = (
        (facts.ensurepip, Road("bundled", "python -m venv")),
        (facts.module, Road("module", f"{bare} this Python's pip")),
        (bool(facts.wheel), Road("wheel", f"{bare} {facts.wheel}", facts.wheel)),
        (facts.apt, Road("apt", f"{bare} the distribution's pip through apt")),
    )
    return tuple(road for is_open, road in roads if is_open)


def plan_pip_environment(environment: Iterable[Tuple[str, str]]) -> Environment:
    """The environment for pip: how to reach an index is kept, whatever changes what is installed or where is not.

    Configuration files are still read, since they may name the index and its certificate; the empty constraints file
    and the zeros override what they may say against a locked, isolated installation.
    """
    reach = re.compile(
        r"PIP_(INDEX_URL|EXTRA_INDEX_URL|NO_INDEX|FIND_LINKS|TRUSTED_HOST|PROXY|CERT|CLIENT_CERT|DEFAULT_TIMEOUT|TIMEOUT"
        r"|RETRIES|CACHE_DIR|NO_CACHE_DIR|CONFIG_FILE|KEYRING_PROVIDER|USE_DEPRECATED|USE_FEATURE)\Z"
    )
    kept = {name: value for name, value in environment if not name.startswith("PIP_") or reach.match(name)}
    kept.update(PIP_CONSTRAINT=os.devnull, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    return kept


def plan_arguments(arguments: List[str]) -> List[str]:
    """What nox passes on to the session: `start.py NAME -- -k x` and `start.py NAME -k x` are the same."""
    rest = arguments[1:] if arguments[:1] == ["--"] else arguments
    return ["--", *rest] if rest else []


def parse_sessions(noxfile: str) -> Dict[str, str]:
    """Name and first docstring line of every session in the text of a noxfile."""
    functions = [node for node in ast.parse(noxfile).body if isinstance(node, ast.FunctionDef)]
    return {
        function.name: (ast.get_docstring(function) or "").split("\n")[0]
        for function in functions
        if any("session" in ast.dump(decorator) for decorator in function.decorator_list)
    }


def parse_deb822(text: str) -> List[Source]:
    """The signed binary sources of a `.sources` file; see sources.list(5)."""
    stanzas = re.split(r"\n[ \t]*\n", re.sub(r"(?m)^#.*\n?", "", text))
    fields = [re.findall(r"(?m)^([\w-]+):(.*(?:\n[ \t]+.*)*)", stanza) for stanza in stanzas]
    return [
        source for stanza in fields for source in plan_sources({name.lower(): value.strip() for name, value in stanza})
    ]


def parse_one_line(text: str) -> List[Source]:
    """The signed binary sources of a `sources.list` file in one-line style; see sources.list(5)."""
    sources: List[Source] = []
    for line in text.splitlines():
        match = re.match(r"\s*(deb)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)", line)
        if match:
            kind, words, uri, suite, components = match.groups()
            fields = {"types": kind, "uris": uri, "suites": suite, "components": components}
            for word in (words or "").split():
                name, _, value = word.partition("=")
                fields[name.lower()] = value
            sources += plan_sources(fields)
    return sources


def plan_sources(fields: Dict[str, str]) -> List[Source]:
    """One source a suite, from the fields of a stanza; none if it is off, holds no binaries or need not be signed."""
    # A word that lifts the demand for a signature would override what we say on the command line.
    words = {name: value.lower() for name, value in fields.items()}
    no = ("no", "false", "0")
    if any(words.get(name, "no") not in no for name in ("trusted", "allow-insecure", "allow-weak")):
        return []
    if words.get("enabled", "yes") in no or "deb" not in words.get("types", "").split():
        return []
    components = tuple(fields.get("components", "").split())
    signed_by, valid = fields.get("signed-by", ""), fields.get("check-valid-until", "")
    uris, suites = fields.get("uris", "").split(), fields.get("suites", "").split()
    return [Source(uri, suite, components, signed_by, valid) for uri in uris for suite in suites]


def format_source(source: Source) -> str:
    """The source as one stanza of a `.sources` file."""
    lines = [f"Types: deb\nURIs: {source.uri}\nSuites: {source.suite}"]
    lines += [f"Components: {' '.join(source.components)}"] if source.components else []
    lines += [f"Signed-By: {source.signed_by}"] if source.signed_by else []
    lines += [f"Check-Valid-Until: {source.check_valid_until}"] if source.check_valid_until else []
    return "\n".join(lines) + "\n"


def parse_transport(dump: str) -> List[str]:
    """Of `apt-config dump`, the lines that say how a mirror is reached (proxy, certificate) and which dates count."""
    return re.findall(r'(?m)^Acquire::(?:https?|ftp|ForceIPv[46]|Check-Date|Check-Valid-Until)\b.*"[^"]+";$', dump)


def plan_apt(folder: Path, transport: List[str]) -> Tuple[str, List[str]]:
    """A configuration file that leaves the machine's own aside, and the demands that go on every command line.

    As root, apt would change to a user that can't read a private folder.
    """
    state = f"""Dir::Etc::main "{os.devnull}";
Dir::Etc::parts "{folder}/empty";
Dir::Etc::sourcelist "{folder}/one.sources";
Dir::Etc::sourceparts "{folder}/empty";
Dir::Etc::preferences "{os.devnull}";
Dir::Etc::preferencesparts "{folder}/empty";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
"""
    demands = ["Acquire::AllowInsecureRepositories=false", "Acquire::AllowWeakRepositories=false"]
    demands += ["Acquire::AllowDowngradeToInsecureRepositories=false", "APT::Get::AllowUnauthenticated=false"]
    demands += ["APT::Update::Error-Mode=any"]  # an index that was not reached is no success
    return state + "\n".join(transport) + "\n", [word for demand in demands for word in ("-o", demand)]


# --- do -------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line of progress, where it doesn't mix with a session's own output."""
    print(f"start: {text}", file=sys.stderr, flush=True)


def run(step: str, command: List[str], remedy: str, environment: Optional[Environment] = None, cwd: str = "") -> str:
    """Run a command to its end and return what it printed; in the checkout, or in `cwd`.

    Raises:
        Failure: it could not be started, or its status was not 0; carries the end of its output.
    """
    try:
        done = subprocess.run(command, env=environment, cwd=cwd or ROOT, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    except OSError as error:
        raise Failure(step, command[0], error.strerror or str(error), remedy) from error
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        tail = "\n    ".join(output.strip().splitlines()[-12:])
        raise Failure(step, f"{command[0]} … {command[-1]}", f"exit status {done.returncode}\n    {tail}", remedy)
    return output


def read_facts() -> Facts:
    """Look at this machine."""
    wheels = sorted(str(path / "pip") for path in Path("/usr/share/python-wheels").glob("pip-*.whl"))
    spec = importlib.util.find_spec("ensurepip")
    bundled = spec is not None and any(Path(spec.origin or "").parent.glob("_bundled/pip-*.whl"))
    ensurepip = spec is not None and (bundled or bool(wheels))
    tools = shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None
    return Facts(ensurepip, importlib.util.find_spec("pip") is not None, wheels[-1] if wheels else "", tools)


def read_sources(etc: Path = Path("/etc/apt")) -> List[Source]:
    """The sources that this machine is configured for, without those that need no signature."""
    sources: List[Source] = []
    parsers = {".list": parse_one_line, ".sources": parse_deb822}
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.is_file() and path.suffix in parsers:
            sources += parsers[path.suffix](path.read_text(encoding="utf-8", errors="replace"))
    return sources


def fetch_pip(folder: Path) -> str:
    """Fetch and unpack the distribution's pip with apt, in private folders; nothing is installed.

    Raises:
        Failure: no source of this machine has it; names each and what it said.
    """
    step, remedy = "fetch pip through apt", "connect the machine to its mirror, or install python3-venv"
    for name in ("empty", "state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    transport = parse_transport(run(step, ["apt-config", "dump"], remedy))
    configuration, demands = plan_apt(folder, transport)
    (folder / "apt.conf").write_text(configuration)
    environment = dict(os.environ, APT_CONFIG=str(folder / "apt.conf"), LC_ALL="C.UTF-8")
    seen = []
    for source in read_sources():  # one by one: one vanished suite fails an update of all
        (folder / "one.sources").write_text(format_source(source))
        try:
            run(step, ["apt-get", *demands, "-q", "update"], remedy, environment, str(folder))
            run(step, ["apt-get", *demands, "-q", "download", "python3-pip-whl"], remedy, environment, str(folder))
        except Failure as failure:
            seen.append(f"{source.suite}: {failure.seen.splitlines()[-1].strip()}")
            continue
        package = next(folder.glob("python3-pip-whl_*.deb"))
        run("unpack pip", ["dpkg-deb", "-x", str(package), str(folder / "pip")], remedy)
        return str(next((folder / "pip/usr/share/python-wheels").glob("pip-*.whl")) / "pip")
    found = "\n    ".join(["not to be had", *seen]) if seen else "no signed source in /etc/apt"
    raise Failure(step, "python3-pip-whl", found, remedy)


def make_environment(road: Road, folder: Path) -> List[str]:
    """Make `.venv` anew by one road and return the command of a pip that works inside it.

    Raises:
        Failure: a step of this road did not work.
    """
    venv = ROOT / ".venv"
    remedy = "install Python's venv module (Debian: apt-get install python3-venv)"
    kind = [] if road.kind == "bundled" else ["--without-pip"]
    run("make a virtual environment", [BASE, "-I", "-m", "venv", "--clear", *kind, str(venv)], remedy)
    python = str(venv / "bin/python")
    if road.kind == "bundled":
        pip = [python, "-I", "-m", "pip"]
    elif road.kind == "module":
        pip = [sys.executable, "-m", "pip", "--python", python]
    else:
        pip = [python, "-I", road.wheel or fetch_pip(folder)]
    run("try pip", [*pip, "--version"], "install or mend this pip")
    return pip


def install(pip: List[str], words: Tuple[str, ...]) -> None:
    """Install into `.venv`: `LOCKED`, or `LINKED` after that.

    Raises:
        Failure: the index was not reached, a hash differs, or the project file is broken.
    """
    command = [*pip, "install", "--quiet", "--no-input", "--no-deps", *words]
    remedy = "connect the machine to its package index (pip's own settings are followed) and start again"
    run("install into .venv", command, remedy, plan_pip_environment(os.environ.items()))


def format_stamp() -> str:
    """All that decides what `.venv` holds; while it is unchanged, pip is not called."""
    lock, project = ((ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "pyproject.toml"))
    packaging = re.findall(r"(?ms)^\[(?:project|build-system|tool\.hatch).*?(?=^\[|\Z)", project)
    return "\n".join([sys.version, os.path.realpath(BASE), str(ROOT), lock, *packaging])


def ensure_environment() -> Path:
    """The Python of an environment that fits the lock file; made by the first road that works.

    Raises:
        Failure: no road is open, or none worked.
    """
    stamp, wanted = ROOT / ".venv" / STAMP, format_stamp()

    def fits() -> bool:
        return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted

    lock = os.open(str(ROOT), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fits():
            return ROOT / ".venv/bin/python"
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another start.py is making .venv: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not fits():
            with tempfile.TemporaryDirectory(prefix="kernelproof-start-") as folder:
                pip = take_first_road(plan_roads(read_facts()), Path(folder))
                say("installing requirements.lock into .venv")
                install(pip, LOCKED)
                install(pip, LINKED)
            stamp.write_text(wanted, encoding="utf-8")
    finally:
        os.close(lock)
    return ROOT / ".venv/bin/python"


def take_first_road(roads: Tuple[Road, ...], folder: Path) -> List[str]:
    """Try the roads in order and return the pip of the first that works.

    Raises:
        Failure: none did; the reasons have been said.
    """
    for road in roads:
        say(f"making .venv ({road.words})")
        try:
            return make_environment(road, folder)
        except Failure as failure:
            say(str(failure))
    seen = f"tried {len(roads)} ways" if roads else f"{BASE} has no ensurepip, and there is neither pip nor apt-get"
    raise Failure("make .venv", str(ROOT / ".venv"), seen, "Debian: apt-get install python3-venv; else install pip")


def start(arguments: List[str]) -> NoReturn:
    """Set up, then become nox.

    Raises:
        Failure: the session is unknown, or the set-up failed.
    """
    sessions = parse_sessions((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    menu = "\n".join(f"  {name:<12} {line}" for name, line in sessions.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE + menu)
        sys.exit(0 if arguments else 2)
    if arguments == ["--set-up"]:
        ensure_environment()
        sys.exit(0)
    name, rest = arguments[0], plan_arguments(arguments[1:])
    if name not in sessions:
        raise Failure("run a session", name, "there is none of that name", f"name one of these:\n{menu}")
    python = str(ensure_environment())
    os.execv(python, [python, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py"), "-s", name, *rest])


def main() -> int:
    """Exit status: nox's own, 1 when the set-up failed, 130 after Ctrl-C."""
    if sys.version_info < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        seen = f"{'.'.join(map(str, sys.version_info[:3]))}, kernelproof needs {wanted} or later"
        say(f"check Python: {sys.executable}: {seen}\n  remedy: run `python{wanted} start.py`, or a newer one")
        return 1
    try:
        start(sys.argv[1:])
    except Failure as failure:
        say(str(failure))
        return 1
    except OSError as error:
        remedy = "work in a checkout that you can write to, on a disk with space left"
        say(f"make .venv: {error.filename}: {error.strerror}\n  remedy: {remedy}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    if Path(sys.prefix) == ROOT / ".venv":  # which may be about to be made anew
        os.execv(BASE, [BASE, *sys.argv])
    sys.exit(main())
