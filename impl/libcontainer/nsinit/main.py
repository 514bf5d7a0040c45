"""The entry of nsinit: global options, then the subcommand; errors become records and an exit status.

Exit status: 0; 1 if it failed, 255 for exec, so that it can't be taken for the program's; 2 for words that are not
understood; that of the program for `run` and `exec`, 128 + N if signal N killed it; 130 after Ctrl-C,
128 + N if another signal ended a call that makes a process.
"""

from __future__ import annotations

import os
import sys

from kernelproof.impl.libcontainer.nsinit.commands import GLOBAL, HELP, PROGRAM, load, module_of
from kernelproof.impl.libcontainer.nsinit.logs import Log
from kernelproof.impl.libcontainer.nsinit.options import Command, Given, UsageError
from kernelproof.impl.libcontainer.nsinit.parsing import parse, parse_front

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from typing import NoReturn

    from kernelproof.impl.libcontainer.nsinit.scripts.packed import Packed

USAGE, INTERRUPTED = 2, 130
_BY_SIGNAL = 128
DATA_PATH = "data_path"  # in the environment: the commands are those of 2014
ENTERING = ("create", "run", "exec", "exec-2014")  # what makes processes that enter a container


class Context:
    """What holds for any subcommand.

    Attributes:
        root: directory of the containers' states.
        log: where records go.
        cgroup_manager: cgroupfs, systemd or disabled.
        rootless: whether the caller says that it has no rights; None if it is to be found out.
    """

    __slots__ = ("cgroup_manager", "log", "root", "rootless")

    def __init__(self, root: str, log: Log, cgroup_manager: str = "cgroupfs", rootless: bool | None = None) -> None:
        self.root = root
        self.log = log
        self.cgroup_manager = cgroup_manager
        self.rootless = rootless


def main(words: list[str] | None = None) -> int:
    """Runs one call of nsinit.

    Args:
        words: the command line without the program's name; by default that of this process.

    Returns:
        The exit status.
    """
    is_command = words is None
    words = sys.argv[1:] if words is None else words
    if is_command and None in (sys.stdin, sys.stdout, sys.stderr):
        open_streams()
    try:
        given, rest = parse_front(GLOBAL, words)
        log = Log(given.text("log"), given.text("log-format", "text"), debugging=given.flag("debug"))
    except UsageError as error:
        return _refuse(Log(), str(error), f"{PROGRAM} --help")
    except OSError as error:
        Log().error(f"--log {error.filename}: {error.strerror}")
        return 1
    try:
        return _dispatch(given, rest, log, is_command=is_command)
    except UsageError as error:
        known = rest and module_of(rest[0])
        return _refuse(log, str(error), f"{PROGRAM} {rest[0]} --help" if known else f"{PROGRAM} --help")
    except KeyboardInterrupt as interrupt:
        return _BY_SIGNAL + interrupt.args[0] if interrupt.args else INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is buffered has nowhere to go
        return 1


def open_streams() -> None:
    """Opens /dev/null in place of the standard streams that the caller has closed.

    Otherwise the next file that is opened would be one of them, of this process and of those that it starts.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        os.set_inheritable(number, True)
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    # They stay open to the end.
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")


def leave(status: int, packed: Packed | None = None) -> NoReturn:
    """Ends this process at once: taking the interpreter apart would cost a fifth of its start.

    Args:
        status: its exit status.
        packed: where this process's modules are kept for the next one.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 1
    if packed is not None:
        packed.keep()
    os._exit(status)


def _refuse(log: Log, text: str, hint: str) -> int:
    log.error(f"{text} (see {hint})")
    return USAGE


def _seal(log: Log) -> None:
    # What enters a container runs from an interpreter that nobody can overwrite: CVE-2019-5736.
    # The installed command has done this before it loaded the package.
    from kernelproof.impl.libcontainer.nsinit.scripts import first  # measured: few subcommands need it

    try:
        if not first.is_protected():
            first.begin_again()
    except OSError as error:
        log.warning(f"the interpreter can't be run from a sealed copy: {error}")


def _dispatch(given: Given, rest: list[str], log: Log, *, is_command: bool = False) -> int:
    if given.flag("version"):
        sys.stdout.write(version_text())
        return 0
    if given.flag("help") or not rest or rest[0] == "help":
        return _help(rest[1:])
    if os.getenv(DATA_PATH) is not None:
        from kernelproof.impl.libcontainer.nsinit.of2014 import translate  # measured: today's words need none of it

        rest = translate(rest, os.environ[DATA_PATH])
    if is_command and rest[0] in ENTERING:
        _seal(log)
        _interrupt_by_signals()
    try:
        command = load(rest[0])
    except LookupError:
        raise UsageError(f"unknown command {rest[0]!r}") from None
    if asks_for_help(command, rest[1:]):
        return _help(rest[:1])
    asked = parse(command, rest[1:])
    return _run(rest[0], command, make_context(given, log), asked)


def make_context(given: Given, log: Log) -> Context:
    """What holds for the subcommand, from the global options.

    Raises:
        UsageError: the two ways to name the manager of cgroups contradict each other.
    """
    manager = given.text("cgroup-manager", "systemd" if given.flag("systemd-cgroup") else "cgroupfs")
    if given.flag("systemd-cgroup") and manager != "systemd":
        raise UsageError(f"--systemd-cgroup and --cgroup-manager {manager} contradict each other")
    rootless = {"true": True, "false": False}.get(given.text("rootless", "auto"))
    return Context(given.text("root"), log, manager, rootless)


def asks_for_help(command: Command, words: list[str]) -> bool:
    """Whether --help or -h stands where an option of nsinit can stand, and is no option's value."""
    front = words[: words.index("--")] if "--" in words else words
    if not any(word in HELP.names for word in front):
        return False
    extended = Command(command.summary, (*command.options, HELP), ("[X...]",), in_order=command.in_order)
    try:
        return parse(extended, words).flag("help")
    except UsageError:
        return not command.in_order


def _interrupt_by_signals() -> None:
    """Has what ends other programs at once end this one as Ctrl-C does: what was begun is taken back."""
    import _signal as signal  # type: ignore[import-not-found]  # signal makes enums of its constants: 4 ms

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_DFL:  # who had one ignored, as nohup(1) does, meant it
            signal.signal(number, interrupt)


def _run(name: str, command: Command, context: Context, given: Given) -> int:
    from kernelproof.impl.libcontainer.nsinit.failures import known_failures, tell  # measured: not for --version

    assert command.run is not None
    try:
        status = command.run(context, given)
        context.log.debug(f"{name}: exit status {status}")
        return status
    except BrokenPipeError:
        raise
    except known_failures() as error:
        as_record = getattr(error, "as_record", None)  # what an operation failed with has one
        context.log.error(tell(error), as_record() if as_record else None)
        return command.failure


def _help(names: list[str]) -> int:
    from kernelproof.impl.libcontainer.nsinit.texts import command_help, program_help  # measured: only for help

    if not names:
        sys.stdout.write(program_help())
        return 0
    try:
        command = load(names[0])
    except LookupError:
        raise UsageError(f"unknown command {names[0]!r}") from None
    sys.stdout.write(command_help(names[0], command))
    return 0


def version_text() -> str:
    """What --version prints: engines show it as it is."""
    # Measured: 1 ms, and only --version needs them.
    from kernelproof import __version__
    from kernelproof.impl.libcontainer.config.templates import VERSION

    python = ".".join([str(number) for number in sys.version_info[:3]])
    return f"{PROGRAM} version {__version__}\nspec: {VERSION}\npython: {python}\n"
