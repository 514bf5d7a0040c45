"""exec: start another process in a container."""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.config.names import CAPABILITIES
from kernelproof.impl.libcontainer.config.reading import load_process
from kernelproof.impl.libcontainer.config.records import Capabilities, Process, User
from kernelproof.impl.libcontainer.nsinit.options import FLAG, NUMBER, TEXT, TEXTS, Command, Given, Option, UsageError
from kernelproof.impl.libcontainer.nsinit.values import parse_id, parse_user
from kernelproof.impl.libcontainer.nsinit.verbs.bundles import (
    check_terminal,
    count_preserved,
    flush,
    root_of,
    send_pidfd,
    tracer,
    with_size,
)
from kernelproof.impl.libcontainer.nsinit.verbs.running import DETACH_KEYS, attend
from kernelproof.impl.libcontainer.running import execute, stored_config

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Starts the process; its exit status if it is in the foreground."""
    identifier, *args = given.operands
    detached = given.flag("detach")
    root = root_of(context)
    sub_cgroup = check_words(given, args)
    if given.has("process"):
        process = load_process(given.text("process"))
    else:
        process = plan_process(stored_config(root, identifier).process or Process("/"), given, tuple(args))
    check_terminal(given, process.terminal, foreground=not detached)
    if not detached:
        process = with_size(process)
    flush()
    started = execute(
        root,
        identifier,
        process,
        console_socket=os.path.abspath(given.text("console-socket")) if given.text("console-socket") else "",
        pid_file=given.text("pid-file"),
        sub_cgroup=sub_cgroup,
        ignore_paused=given.flag("ignore-paused"),
        preserved=count_preserved(given),
        prepare=tracer(context),
    )
    for text in started.refused:
        context.log.warning(f"not to be had here: {text}")
    if detached:
        send_pidfd(given.text("pidfd-socket"), started.pidfd)
        return 0
    return attend(started, given) or 0


def check_words(given: Given, args: list[str]) -> str:
    """Refuses what can't be meant, before any container is looked at; returns the name below its cgroup.

    Raises:
        UsageError: see the text.
    """
    if given.has("process") and args:
        raise UsageError("--process says what is started: no command can stand beside it")
    if not given.has("process") and not args:
        raise UsageError("COMMAND is missing")
    count_preserved(given)
    plan_process(Process("/"), given, tuple(args))
    return parse_cgroup(given.text("cgroup"))


def plan_process(own: Process, given: Given, args: tuple[str, ...]) -> Process:
    """The process that the options ask for; what they do not say is as in the container's own.

    Raises:
        UsageError: an option's value can't be understood.
    """
    user = own.user
    if given.has("user"):
        uid, gid = parse_user(given.text("user"))
        user = User(uid, own.user.gid if gid is None else gid, own.user.umask, own.user.additional_gids)
    if given.has("additional-gids"):
        groups = [parse_id(text, "--additional-gids") for text in given.texts("additional-gids")]
        user = user.replace(additional_gids=(*user.additional_gids, *groups))
    for entry in given.texts("env"):
        if entry.find("=") < 1:
            raise UsageError(f"--env {entry!r}: NAME=value is needed")
    cwd = given.text("cwd", own.cwd)
    if not cwd.startswith("/"):
        raise UsageError(f"--cwd {cwd!r}: an absolute path is needed")
    return own.replace(
        args=args,
        cwd=cwd,
        env=(*own.env, *given.texts("env")),
        user=user,
        terminal=given.flag("tty"),
        console_size=None,
        capabilities=add_capabilities(own.capabilities, given.texts("cap")),
        no_new_privileges=own.no_new_privileges or given.flag("no-new-privs"),
        apparmor_profile=given.text("apparmor") or own.apparmor_profile,
        selinux_label=given.text("process-label") or own.selinux_label,
    )


def add_capabilities(own: Capabilities | None, names: list[str]) -> Capabilities | None:
    """The container's capabilities with some more; never in the inheritable set.

    Raises:
        UsageError: there is no such capability.

    Source: CVE-2022-29162.
    """
    for name in names:
        if name not in CAPABILITIES:
            raise UsageError(f"--cap {name!r}: no capability of this name is known; names are as in capabilities(7)")
    if not names:
        return own
    have = own or Capabilities()
    more = {
        field: tuple(dict.fromkeys((*getattr(have, field), *names))) for field in ("bounding", "effective", "permitted")
    }
    return have.replace(**more)


def parse_cgroup(text: str) -> str:
    """The name below the container's cgroup; a controller before a colon is not needed.

    Raises:
        UsageError: it climbs out.
    """
    name = text.rpartition(":")[2].strip("/")
    if ".." in name.split("/"):
        raise UsageError(f"--cgroup {text!r}: a cgroup below the container's is needed")
    return name


COMMAND = Command(
    "start another process in a running container",
    (
        Option("--process -p", TEXT, "file with the process, as in config.json; then only that counts", "FILE"),
        Option("--cwd", TEXT, "working directory", "DIR"),
        Option("--env -e", TEXTS, "one more variable; can be given several times", "NAME=value"),
        Option("--user -u", TEXT, "numbers, never names", "UID[:GID]"),
        Option("--additional-gids -g", TEXTS, "one more group; can be given several times", "GID"),
        Option("--cap -c", TEXTS, "one more capability; can be given several times", "CAP_NAME"),
        Option("--tty -t", FLAG, "give it a terminal"),
        Option("--console-socket", TEXT, "unix socket that gets the master of the terminal", "PATH"),
        Option("--pidfd-socket", TEXT, "unix socket that gets a pidfd of the process", "PATH"),
        Option("--detach -d", FLAG, "leave it running, and end"),
        DETACH_KEYS,
        Option("--pid-file", TEXT, "file for the pid of the process", "PATH"),
        Option("--no-new-privs", FLAG, "it can't gain rights by programs that it starts"),
        Option("--apparmor", TEXT, "AppArmor profile", "PROFILE"),
        Option("--process-label", TEXT, "SELinux label", "LABEL"),
        Option("--cgroup", TEXT, "cgroup below the container's", "NAME"),
        Option("--preserve-fds", NUMBER, "pass so many more descriptors, from 3 on", "N"),
        Option("--ignore-paused", FLAG, "in a paused container it begins when that is resumed"),
        Option("--no-subreaper", FLAG, "accepted: an orphan goes to the container's first process", hidden=True),
    ),
    ("ID", "[COMMAND...]"),
    run=run,
    in_order=True,
    failure=255,
    details="What no option says is as in the container's own process: environment, user, capabilities, limits, "
    "filter. The exit status is the program's; 255 if it could not be started.",
    examples=("nsinit exec web ps", "nsinit exec -t -e TERM=xterm -u 1000:100 web sh -l"),
)
