"""Terminals on Linux, macOS and the BSDs: modes that come back, pseudoterminals, programs on them, copies, recordings.

    states      the attributes of a terminal as a value: saved, changed, compared, printed, set
    window      window sizes, in rows, columns and pixels
    modes       blocks of raw, cbreak and no echo, nestable; guard and watcher: also after SIGKILL
    keys        names of keys; detach: find a detach sequence, without a clock or a descriptor
    queues      input and output under way: flush, drain, suspend, count; packets: what the program did to its terminal
    pairs       pseudoterminal pairs; process: a program on one, without fork; linux: what only Linux has
    session     controlling terminals and foreground groups; calls: the calls themselves, which all of this rests on
    relay       what a copy between two terminals has to do; copying does it with poll, aio with asyncio
    console     hand a master over a socket; cast: record and play, asciicast v2
    classic     the functions of 2014 by their names

    with PseudoterminalPair.open(read_window_size(0)) as pair, pair.spawn(["sh"]) as process, raw(0, guard=True):
        copy_terminal(pair.master, resize=True, pidfd=process.pidfd)

This is not a terminal emulator, and not a screen library: it moves bytes and knows no escape sequences, but those that
leave a mode.

A name is looked up when it is first used, so that a program pays for the modules it needs.
"""

from importlib import import_module

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.term.aio import copy_terminal_async as copy_terminal_async
    from kernelproof.impl.term.aio import proxy_async as proxy_async
    from kernelproof.impl.term.cast import Event as Event
    from kernelproof.impl.term.cast import Header as Header
    from kernelproof.impl.term.cast import Recorder as Recorder
    from kernelproof.impl.term.cast import Recording as Recording
    from kernelproof.impl.term.cast import plan_times as plan_times
    from kernelproof.impl.term.cast import play as play
    from kernelproof.impl.term.cast import waiter as waiter
    from kernelproof.impl.term.classic import State as State
    from kernelproof.impl.term.classic import Termios as Termios
    from kernelproof.impl.term.classic import disable_echo as disable_echo
    from kernelproof.impl.term.classic import make_raw as make_raw
    from kernelproof.impl.term.classic import restore_terminal as restore_terminal
    from kernelproof.impl.term.classic import save_state as save_state
    from kernelproof.impl.term.classic import set_raw_terminal as set_raw_terminal
    from kernelproof.impl.term.classic import set_raw_terminal_output as set_raw_terminal_output
    from kernelproof.impl.term.classic import std_streams as std_streams
    from kernelproof.impl.term.console import receive_master as receive_master
    from kernelproof.impl.term.console import send_master as send_master
    from kernelproof.impl.term.copying import copy_terminal as copy_terminal
    from kernelproof.impl.term.copying import proxy as proxy
    from kernelproof.impl.term.detach import DetachMatcher as DetachMatcher
    from kernelproof.impl.term.detach import EscapeProxy as EscapeProxy
    from kernelproof.impl.term.detach import Fed as Fed
    from kernelproof.impl.term.detach import new_escape_proxy as new_escape_proxy
    from kernelproof.impl.term.errors import ConsoleSocketError as ConsoleSocketError
    from kernelproof.impl.term.errors import ErrInvalidState as ErrInvalidState
    from kernelproof.impl.term.errors import EscapeError as EscapeError
    from kernelproof.impl.term.errors import InvalidStateError as InvalidStateError
    from kernelproof.impl.term.errors import NotPseudoterminalError as NotPseudoterminalError
    from kernelproof.impl.term.errors import RecordingError as RecordingError
    from kernelproof.impl.term.errors import TerminalError as TerminalError
    from kernelproof.impl.term.errors import UnknownKeyError as UnknownKeyError
    from kernelproof.impl.term.guard import LEAVE as LEAVE
    from kernelproof.impl.term.keys import parse_keys as parse_keys
    from kernelproof.impl.term.keys import to_bytes as to_bytes
    from kernelproof.impl.term.modes import Mode as Mode
    from kernelproof.impl.term.modes import cbreak as cbreak
    from kernelproof.impl.term.modes import echo_disabled as echo_disabled
    from kernelproof.impl.term.modes import no_echo as no_echo
    from kernelproof.impl.term.modes import raw as raw
    from kernelproof.impl.term.packets import Packet as Packet
    from kernelproof.impl.term.packets import PacketEvent as PacketEvent
    from kernelproof.impl.term.packets import parse_packet as parse_packet
    from kernelproof.impl.term.packets import read_packet as read_packet
    from kernelproof.impl.term.packets import set_packet_mode as set_packet_mode
    from kernelproof.impl.term.pairs import PseudoterminalPair as PseudoterminalPair
    from kernelproof.impl.term.pairs import give_console as give_console
    from kernelproof.impl.term.pairs import open_pair as open_pair
    from kernelproof.impl.term.process import Process as Process
    from kernelproof.impl.term.process import spawn_on as spawn_on
    from kernelproof.impl.term.queues import BOTH as BOTH
    from kernelproof.impl.term.queues import INPUT as INPUT
    from kernelproof.impl.term.queues import OUTPUT as OUTPUT
    from kernelproof.impl.term.queues import RESUME_OUTPUT as RESUME_OUTPUT
    from kernelproof.impl.term.queues import SEND_START as SEND_START
    from kernelproof.impl.term.queues import SEND_STOP as SEND_STOP
    from kernelproof.impl.term.queues import SUSPEND_OUTPUT as SUSPEND_OUTPUT
    from kernelproof.impl.term.queues import drain as drain
    from kernelproof.impl.term.queues import flow as flow
    from kernelproof.impl.term.queues import flush as flush
    from kernelproof.impl.term.queues import input_waiting as input_waiting
    from kernelproof.impl.term.queues import output_waiting as output_waiting
    from kernelproof.impl.term.queues import push_input as push_input
    from kernelproof.impl.term.queues import send_break as send_break
    from kernelproof.impl.term.relay import DETACHED as DETACHED
    from kernelproof.impl.term.relay import EXITED as EXITED
    from kernelproof.impl.term.relay import HUNG_UP as HUNG_UP
    from kernelproof.impl.term.relay import OUTPUT_GONE as OUTPUT_GONE
    from kernelproof.impl.term.relay import TIMED_OUT as TIMED_OUT
    from kernelproof.impl.term.relay import Ended as Ended
    from kernelproof.impl.term.relay import Relay as Relay
    from kernelproof.impl.term.session import leave_controlling_terminal as leave_controlling_terminal
    from kernelproof.impl.term.session import read_foreground_group as read_foreground_group
    from kernelproof.impl.term.session import set_controlling_terminal as set_controlling_terminal
    from kernelproof.impl.term.session import set_foreground_group as set_foreground_group
    from kernelproof.impl.term.states import DRAIN as DRAIN
    from kernelproof.impl.term.states import FLUSH as FLUSH
    from kernelproof.impl.term.states import NOW as NOW
    from kernelproof.impl.term.states import TermState as TermState
    from kernelproof.impl.term.states import get_fd_info as get_fd_info
    from kernelproof.impl.term.states import is_terminal as is_terminal
    from kernelproof.impl.term.states import make_cbreak_state as make_cbreak_state
    from kernelproof.impl.term.states import make_no_echo_state as make_no_echo_state
    from kernelproof.impl.term.states import make_raw_state as make_raw_state
    from kernelproof.impl.term.states import restore as restore
    from kernelproof.impl.term.states import save as save
    from kernelproof.impl.term.window import WindowSize as WindowSize
    from kernelproof.impl.term.window import Winsize as Winsize
    from kernelproof.impl.term.window import get_winsize as get_winsize
    from kernelproof.impl.term.window import read_window_size as read_window_size
    from kernelproof.impl.term.window import set_window_size as set_window_size
    from kernelproof.impl.term.window import set_winsize as set_winsize

# Module -> its public names.
_HOMES = {
    "aio": "copy_terminal_async proxy_async",
    "cast": "Event Header Recorder Recording plan_times play waiter",
    "classic": (
        "State Termios disable_echo make_raw restore_terminal save_state set_raw_terminal "
        "set_raw_terminal_output std_streams"
    ),
    "console": "receive_master send_master",
    "copying": "copy_terminal proxy",
    "detach": "DetachMatcher EscapeProxy Fed new_escape_proxy",
    "errors": (
        "ConsoleSocketError ErrInvalidState EscapeError InvalidStateError NotPseudoterminalError "
        "RecordingError TerminalError UnknownKeyError"
    ),
    "guard": "LEAVE",
    "keys": "parse_keys to_bytes",
    "modes": "Mode cbreak echo_disabled no_echo raw",
    "packets": "Packet PacketEvent parse_packet read_packet set_packet_mode",
    "pairs": "PseudoterminalPair give_console open_pair",
    "process": "Process spawn_on",
    "queues": (
        "BOTH INPUT OUTPUT RESUME_OUTPUT SEND_START SEND_STOP SUSPEND_OUTPUT drain flow flush input_waiting "
        "output_waiting push_input send_break"
    ),
    "relay": "DETACHED EXITED Ended HUNG_UP OUTPUT_GONE Relay TIMED_OUT",
    "session": "leave_controlling_terminal read_foreground_group set_controlling_terminal set_foreground_group",
    "states": (
        "DRAIN FLUSH NOW TermState get_fd_info is_terminal make_cbreak_state make_no_echo_state "
        "make_raw_state restore save"
    ),
    "window": "WindowSize Winsize get_winsize read_window_size set_window_size set_winsize",
}


def __getattr__(name: str) -> object:
    if name == "__all__":  # for import *, which finds no names here otherwise
        return __dir__()
    module = next((module for module, names in _HOMES.items() if name in names.split()), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return sorted(name for names in _HOMES.values() for name in names.split())
