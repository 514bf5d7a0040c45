r"""The manual page, made of the tables that read the command line.

nsinit manual > docs/nsinit.1
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.nsinit.commands import GLOBAL, VERBS, load
from kernelproof.impl.libcontainer.nsinit.options import FLAG, Command, Option

HEAD = r""".\" Made by nsinit manual; a test holds it to the command line.
.TH NSINIT 1 "" kernelproof
.SH NAME
nsinit \- start and control containers from bundles
.SH SYNOPSIS
.B nsinit
.RI [ OPTION " ...]"
.I COMMAND
.RI [ ARGUMENT " ...]"
.SH DESCRIPTION
A container runtime as podman and containerd call it, after the runtime specification 1.3 of the Open Container
Initiative.
A bundle is a directory with a file
.I config.json
and a root filesystem.
The state of a container is kept in a directory of its own; between two commands no process of the runtime stays behind.
.PP
Options are written
.BI \-\-option " value"
or
.BI \-\-option= value\fR.
All words of a command line are understood before anything is done.
.SH OPTIONS
These stand before the command."""

TAIL = r""".SH EXIT STATUS
0; 1 after a failure, 255 of
.BR exec ;
2 if the command line is not understood; 130 after Ctrl\-C.
In the foreground
.B run
and
.B exec
end as the program did: 128 + N if signal N killed it.
.SH RECORDS
With
.B \-\-log\-format json
each record is one JSON object a line, with
.IR level ,
.I msg
and
.IR time ;
the last one of level error is why the command failed.
.SH COMMANDS OF 2014
With
.B data_path
in the environment,
.IR exec ,
.IR stats ,
.IR pause ,
.I unpause
and
.I config
without an ID are what nsinit of libcontainer 1.x had:
.I container.json
lies in the directory of that name, and the working directory is the root.
.B exec
starts a container, or a further process in the one that runs; its file
.I pid
lies beside.
.SH ENVIRONMENT
.TP
.B data_path
As above.
.TP
.B XDG_RUNTIME_DIR
Below it are the states of containers that are not root's.
.TP
.B NOTIFY_SOCKET, LISTEN_FDS, LISTEN_PID
As in sd_notify(3) and sd_listen_fds(3): passed on to the container.
.SH FILES
.TP
.I /run/kernelproof/containers
States, if
.B \-\-root
names no other directory.
.SH SEE ALSO
.BR capabilities (7),
.BR cgroups (7),
.BR namespaces (7),
.BR kernelproof (1)
"""


def make_page() -> str:
    """The page, as troff."""
    lines = [HEAD, *_options(GLOBAL), ".SH COMMANDS"]
    for name in VERBS:
        lines += _command(name, load(name))
    return "\n".join([*lines, TAIL])


def _command(name: str, command: Command) -> list[str]:
    operands = "".join([rf" \fI{escape(operand)}\fR" for operand in command.operands])
    lines = [rf".SS {escape(name)}", rf"\fB{escape(name)}\fR [\fIOPTION\fR ...]{operands}", ".PP"]
    lines.append(escape(command.summary[:1].upper() + command.summary[1:]) + ".")
    if command.details:
        lines.append(_guard(escape(command.details)))
    lines += _options(command)
    if command.examples:
        lines += [".PP", "Examples:", ".nf", *[_guard(escape(f"    {example}")) for example in command.examples], ".fi"]
    return lines


def _options(command: Command) -> list[str]:
    lines = []
    for option in command.options:
        if not option.hidden:
            lines += [".TP", _spell(option), _guard(escape(option.text[:1].upper() + option.text[1:]) + ".")]
    return lines


def _spell(option: Option) -> str:
    names = ", ".join([rf"\fB{escape(name)}\fR" for name in sorted(option.names, key=len)])
    if option.kind == FLAG:
        return names
    if option.choices:
        return f"{names} " + "|".join([rf"\fB{choice}\fR" for choice in option.choices])
    return rf"{names} \fI{escape(option.metavar or 'VALUE')}\fR"


def escape(text: str) -> str:
    """A text as troff shows it unchanged."""
    return text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")


def _guard(line: str) -> str:
    return rf"\&{line}" if line.startswith((".", "'")) else line
