"""Copies between a master and the local side: everything arrives, nothing waits for what it need not."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.term import (
    DETACHED,
    EXITED,
    HUNG_UP,
    OUTPUT_GONE,
    TIMED_OUT,
    Ended,
    PseudoterminalPair,
    WindowSize,
    copy_terminal,
    copy_terminal_async,
    input_waiting,
    make_raw_state,
    parse_keys,
    restore,
    save,
)
from kernelproof.impl.term.calls import LONGEST_MILLISECONDS, poll_until
from kernelproof.impl.term.copying import non_blocking
from kernelproof.impl.tests.term.programs import SIZE, Program
from kernelproof.impl.tests.term.sides import Copy, Local, both_ways, copy_by_asyncio, writer

# T7: the end.


def copy_stopping_at_hang_up(master: int, stdin: int, stdout: int) -> Ended:
    """Stop when poll says that the other side is gone."""
    poll = select.poll()
    poll.register(master, select.POLLIN)
    count = 0
    while True:
        for _, events in poll.poll():
            if events & select.POLLHUP:
                return Ended(HUNG_UP, 0, count)
            count += os.write(stdout, os.read(master, 1024))


@pytest.mark.rule("T7", ours=copy_terminal, wrong=copy_stopping_at_hang_up)
def test_everything_is_read_before_the_end(pair: PseudoterminalPair, local: Local, subject: Copy) -> None:
    """What a program wrote before it ended is passed on whole, then the copy ends."""
    with pair.spawn(["sh", "-c", "printf %3000d 7"]) as process:
        process.wait(30)
        ended = subject(pair.master, local.stdin, local.stdout)
    assert ended.bytes_out == 3000
    assert ended.reason == HUNG_UP
    assert os.read(local.screen, 5000) == b"%3000d" % 7


@both_ways
@pytest.mark.rule("T7")
@pytest.mark.rule("T+4")
def test_much_output_arrives_whole(copy: Copy, pair: PseudoterminalPair, local: Local) -> None:
    """Megabytes arrive byte for byte, through a reader that takes its time."""
    count = 4 << 20
    got = bytearray()

    def take() -> None:
        while data := os.read(local.screen, 30_000):
            got.extend(data)

    taker = threading.Thread(target=take)
    taker.start()
    with pair.spawn(writer(count)) as process:
        ended = copy(pair.master, local.stdin, local.stdout)
        process.wait(30)
    os.close(local.stdout)
    taker.join()
    assert ended == Ended(HUNG_UP, 0, count)
    assert got == b"0123456789abcdef" * (count // 16)


@both_ways
@pytest.mark.rule("T7")
@pytest.mark.rule("T+4")
def test_end_of_a_process_whose_children_live_on(copy: Copy, pair: PseudoterminalPair, local: Local) -> None:
    """With a process, its end is the end of the copy, after what it wrote, although others hold the terminal."""
    with pair.spawn(["sh", "-c", "trap '' HUP; sleep 60 & echo all"]) as process:
        ended = copy(pair.master, local.stdin, local.stdout, pidfd=process.pidfd, timeout_seconds=30)
        assert (ended.reason, ended.bytes_out) == (EXITED, 4)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert os.read(local.screen, 100) == b"all\n"


# T8: nobody waits for another.


def copy_with_blocking_writes(master: int, stdin: int, stdout: int, **keywords: object) -> Ended:
    """Write all that was read before anything else is done; given up after a while."""
    deadline = time.monotonic() + 1.5
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(stdin, select.POLLIN)
    counts = {master: 0, stdin: 0}
    os.set_blocking(stdout, False)  # only to be able to give up
    while time.monotonic() < deadline:
        for fd, _ in poll.poll(100):
            data = os.read(fd, 4096)
            while data and time.monotonic() < deadline:
                try:
                    written = os.write(master if fd == stdin else stdout, data)
                except BlockingIOError:
                    continue
                counts[fd] += written
                data = data[written:]
    return Ended(TIMED_OUT, counts[stdin], counts[master])


@pytest.mark.rule("T8", ours=copy_terminal, wrong=copy_with_blocking_writes)
def test_output_that_nobody_takes_holds_up_no_input(pair: PseudoterminalPair, local: Local, subject: Copy) -> None:
    """While nobody reads the screen, what is typed arrives at the program."""
    peer = pair.peer()
    os.set_blocking(peer, False)
    over, end = os.pipe()
    got: list[bytes] = []

    def fill_then_type() -> None:
        poll = select.poll()
        poll.register(peer, select.POLLOUT)
        while poll.poll(200) or input_waiting(local.screen) < 30_000:  # until screen, copy and terminal are full
            try:
                os.write(peer, b"x" * 4096)
            except BlockingIOError:
                continue
        os.write(local.typing, b"typed")
        if peer in select.select([peer, over], [], [])[0]:
            got.append(os.read(peer, 100))
        os.write(local.typing, b"q")

    thread = threading.Thread(target=fill_then_type)
    thread.start()
    ended = subject(pair.master, local.stdin, local.stdout, detach_keys=b"q", timeout_seconds=60)
    os.close(end)
    thread.join()
    for fd in (peer, over):
        os.close(fd)
    assert got == [b"typed"]
    assert (ended.reason, ended.bytes_in) == (DETACHED, 5)
    assert ended.bytes_out >= 30_000


@both_ways
@pytest.mark.rule("T8")
@pytest.mark.rule("T+4")
def test_input_that_nobody_takes_waits(copy: Copy, pair: PseudoterminalPair, local: Local) -> None:
    """What the program does not read stays in the pipe, is kept in order, and arrives when it is read."""
    count = 200_000
    peer = pair.peer()
    got = bytearray()
    os.set_blocking(local.typing, False)
    first = os.write(local.typing, b"0123456789" * 6000)
    os.set_blocking(local.typing, True)

    def type_then_read() -> None:
        typed = first
        os.set_blocking(local.typing, True)
        rest = (b"0123456789" * (count // 10))[typed:]

        def type_rest() -> None:
            os.write(local.typing, rest)
            os.close(local.typing)

        done = threading.Thread(target=type_rest)
        done.start()
        while len(got) < count:
            got.extend(os.read(peer, 7000))
        done.join()
        os.close(peer)

    thread = threading.Thread(target=type_then_read)
    thread.start()
    ended = copy(pair.master, local.stdin, local.stdout, timeout_seconds=60)
    thread.join()
    assert (ended.reason, ended.bytes_in) == (HUNG_UP, count)
    assert got == b"0123456789" * (count // 10)


# T+4: why it ends.


@both_ways
@pytest.mark.rule("T+4")
def test_detach_keys_end_it(copy: Copy, pair: PseudoterminalPair, local: Local) -> None:
    """The detach sequence ends the copy; what was typed before it arrives, what came after it is returned."""
    peer = pair.peer()
    os.write(local.typing, b"ls\x10\x11more")
    ended = copy(pair.master, local.stdin, local.stdout, detach_keys=parse_keys("ctrl-p,ctrl-q"))
    assert ended == Ended(DETACHED, 2, 0, b"more")
    assert os.read(peer, 100) == b"ls"
    os.close(peer)


@both_ways
@pytest.mark.rule("T1")
@pytest.mark.rule("T+4")
def test_held_key_arrives_in_time(copy: Copy, pair: PseudoterminalPair, local: Local) -> None:
    """A first key of the sequence reaches the program after the hold time, though nothing more is typed."""
    peer = pair.peer()
    got: list[bytes] = []

    def take_then_detach() -> None:
        got.append(os.read(peer, 100))
        os.write(local.typing, b"\x10\x11")

    thread = threading.Thread(target=take_then_detach)
    thread.start()
    os.write(local.typing, b"\x10")
    ended = copy(pair.master, local.stdin, local.stdout, detach_keys=b"\x10\x11", hold_seconds=0.05)
    thread.join()
    assert (ended, got) == (Ended(DETACHED, 1, 0), [b"\x10"])
    os.close(peer)


@both_ways
@pytest.mark.rule("T+4")
def test_output_gone_ends_it(copy: Copy, pair: PseudoterminalPair, local: Local) -> None:
    """When nobody can read the output any more, the copy ends and says so; the program is not touched."""
    os.close(local.screen)
    peer = pair.peer()
    os.write(peer, b"x")
    assert copy(pair.master, local.stdin, local.stdout, timeout_seconds=30).reason == OUTPUT_GONE
    os.close(peer)


@both_ways
@pytest.mark.rule("T+4")
def test_end_of_input_is_typed(copy: Copy, local: Local) -> None:
    """At the end of stdin a program that reads lines gets its end of file, and the copy goes on to its last word."""
    with PseudoterminalPair.open(SIZE) as pair, pair.spawn(["sh", "-c", "stty -echo; cat; echo end"]) as process:
        os.write(local.typing, b"line\n")
        os.close(local.typing)
        ended = copy(pair.master, local.stdin, local.stdout, timeout_seconds=30)
        assert process.wait(30) == 0
    assert ended.reason == HUNG_UP
    assert os.read(local.screen, 100).split(b"\r\n")[-3:] == [b"line", b"end", b""]


@both_ways
@pytest.mark.rule("T+4")
@pytest.mark.parametrize("text", [b"line\n", b"line\r", b"no newline", b"held\n\x10", b"ended\x04", b"line;"])
@pytest.mark.parametrize("keys", [b"", b"\x10\x11"], ids=["no detach keys", "detach keys"])
def test_end_of_input_is_seen_once(copy: Copy, local: Local, text: bytes, keys: bytes) -> None:
    """However the last line ends, the program's next read is the end of the file, and the one after that is none."""
    with PseudoterminalPair.open(SIZE) as pair:
        peer = pair.peer()
        restore(peer, save(peer).changed("-ECHO", VEOL=ord(";")))
        os.write(local.typing, text)
        os.close(local.typing)
        copy(pair.master, local.stdin, local.stdout, detach_keys=keys, timeout_seconds=0.1)
        os.set_blocking(peer, False)
        lines = [os.read(peer, 100) for _ in range(1 + text.startswith(b"held"))]
        assert b"".join(lines) == text.removesuffix(b"\x04").replace(b"\r", b"\n")
        assert os.read(peer, 100) == b""
        with pytest.raises(BlockingIOError):
            os.read(peer, 100)
        os.close(peer)


@both_ways
@pytest.mark.rule("T+4")
def test_no_end_of_file_character(copy: Copy, local: Local) -> None:
    """A terminal that has no end-of-file character gets none, nor a NUL."""
    os.close(local.typing)
    with PseudoterminalPair.open(SIZE) as pair:
        restore(pair.master, save(pair.master).changed(VEOF=0))
        peer = pair.peer()
        assert copy(pair.master, local.stdin, local.stdout, timeout_seconds=0.1) == Ended(TIMED_OUT, 0, 0)
        os.close(peer)


@both_ways
@pytest.mark.rule("T+4")
def test_end_of_input_for_who_reads_keys(copy: Copy, pair: PseudoterminalPair, local: Local) -> None:
    """A program in raw mode gets no byte that it could take for a key; nor does one, if that is switched off."""
    peer = pair.peer()
    os.close(local.typing)
    assert copy(pair.master, local.stdin, local.stdout, timeout_seconds=0.1) == Ended(TIMED_OUT, 0, 0)
    with PseudoterminalPair.open() as lines:
        fd = lines.peer()
        ended = copy(lines.master, local.stdin, local.stdout, timeout_seconds=0.1, send_end=False)
        os.close(fd)
    assert ended == Ended(TIMED_OUT, 0, 0)
    os.close(peer)


@both_ways
@pytest.mark.parametrize("kind", ["file", "socket", "terminal"])
def test_other_kinds_of_local_side(copy: Copy, pair: PseudoterminalPair, kind: str, tmp_path: Path) -> None:
    """Input from a file, a socket or a terminal, and output to it, work as with pipes; no flag of theirs changes."""
    peer = pair.peer()
    path = tmp_path / "typed"
    path.write_bytes(b"typed")
    got: list[bytes] = []

    def take_then_answer() -> None:
        got.append(os.read(peer, 5))
        os.write(peer, b"shown")
        os.close(peer)

    program = threading.Thread(target=take_then_answer)
    program.start()
    with PseudoterminalPair.open() as other, open(path, "r+b", buffering=0) as file:
        one, two = socket.socketpair()
        restore(other.master, make_raw_state(save(other.master)))
        fd = {"file": file.fileno(), "socket": one.fileno(), "terminal": other.peer()}[kind]
        if kind == "socket":
            two.sendall(b"typed")
        elif kind == "terminal":
            os.write(other.master, b"typed")
        ended = copy(pair.master, fd, fd, timeout_seconds=60)
        program.join()
        assert (ended, got) == (Ended(HUNG_UP, 5, 5), [b"typed"])
        assert os.get_blocking(fd)
        assert os.get_blocking(pair.master)
        if kind == "file":
            assert path.read_bytes() == b"typedshown"
        else:
            assert (two.recv(100) if kind == "socket" else os.read(other.master, 100)) == b"shown"
        one.close()
        two.close()
        if kind == "terminal":
            os.close(fd)


def test_shared_terminal_stays_blocking() -> None:
    """During a copy other descriptors of the same terminal still wait: the shell's reads are not disturbed."""
    with PseudoterminalPair.open() as pair:
        shell = pair.peer()
        with non_blocking(shell, os.O_RDONLY) as own:
            assert own != shell
            assert not os.get_blocking(own)
            assert os.get_blocking(shell)
        os.close(shell)


def test_not_readable_is_an_error(pair: PseudoterminalPair, local: Local) -> None:
    """What is no end and no full pipe is an error of the copy."""
    directory = os.open("/", os.O_RDONLY)
    for copy in (copy_terminal, copy_by_asyncio):
        with pytest.raises(IsADirectoryError):
            copy(pair.master, directory, local.stdout)
        assert os.get_blocking(pair.master)
    os.close(directory)


@both_ways
@pytest.mark.rule("T+4")
@pytest.mark.parametrize("seconds", [3e6, float("inf")])
def test_deadline_beyond_what_poll_takes(copy: Copy, pair: PseudoterminalPair, local: Local, seconds: float) -> None:
    """A deadline after months, or never, is one as any other, for the copy, for a held key and for a program's end."""
    os.write(local.typing, b"\x10")
    with pair.spawn(["sh", "-c", "exit 7"]) as process:
        ended = copy(
            pair.master,
            local.stdin,
            local.stdout,
            timeout_seconds=seconds,
            detach_keys=b"\x10\x11",
            hold_seconds=seconds,
        )
        assert ended.reason == HUNG_UP
        assert process.wait(seconds) == 7


def test_wait_longer_than_poll_takes_goes_on() -> None:
    """When the longest time that poll takes is over, the rest is waited for."""
    asked: list[float | None] = []

    class Poll:
        def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
            asked.append(milliseconds)
            return []

    now = iter([0.0, LONGEST_MILLISECONDS / 1000])
    assert poll_until(Poll(), LONGEST_MILLISECONDS / 1000 + 5, lambda: next(now)) == []  # type: ignore[arg-type]
    assert asked == [LONGEST_MILLISECONDS, pytest.approx(5000)]


@both_ways
@pytest.mark.rule("T+4")
def test_what_a_recorder_raises_ends_it(copy: Copy, pair: PseudoterminalPair, local: Local) -> None:
    """What on_output raises, of whatever class, reaches who asked for the copy, and nothing is left watched."""
    peer = pair.peer()
    os.write(peer, b"shown")

    def record(data: bytes) -> None:
        raise LookupError(data)

    with pytest.raises(LookupError, match="shown"):
        copy(pair.master, local.stdin, local.stdout, on_output=record, timeout_seconds=30)
    assert os.get_blocking(pair.master)
    os.close(peer)


def test_cancelled_task_leaves_nothing(pair: PseudoterminalPair, local: Local) -> None:
    """A task that is cancelled watches nothing any more, and the master blocks as before."""

    async def run() -> None:
        task = asyncio.ensure_future(
            copy_terminal_async(pair.master, local.stdin, local.stdout, detach_keys=b"ab", timeout_seconds=60)
        )
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        loop = asyncio.get_running_loop()
        assert not loop.remove_reader(pair.master)

    before = os.listdir("/dev/fd")
    asyncio.run(run())
    assert os.listdir("/dev/fd") == before
    assert os.get_blocking(pair.master)


# Sizes.


@both_ways
@pytest.mark.rule("T6")
@pytest.mark.rule("T+4")
def test_size_follows(copy: Copy, run_script: Callable[[str], Program]) -> None:
    """The program has the local terminal's size, gets each change, and the handlers before are called."""
    way = "copy_terminal" if copy is copy_terminal else "asyncio.run(copy_terminal_async"
    close = "" if copy is copy_terminal else ")"
    inner = "trap 'stty size' WINCH; echo go; while :; do sleep 0.01; done"
    program = run_script(
        "import asyncio, signal\n"
        "from kernelproof.impl.term import PseudoterminalPair, copy_terminal, copy_terminal_async\n"
        "signal.signal(signal.SIGWINCH, lambda *_: print('seen', flush=True))\n"
        "before = signal.getsignal(signal.SIGWINCH)\n"
        f"with PseudoterminalPair.open() as pair, pair.spawn(['sh', '-c', {inner!r}]) as process:\n"
        f"    {way}(pair.master, 0, 1, resize=True, detach_keys=b'q'){close}\n"
        "    process.send_signal(9); process.wait()\n"
        "print('after', signal.getsignal(signal.SIGWINCH) is before, flush=True)\n"
    )
    program.read_until(b"go")
    program.pair.resize(WindowSize(31, 91))
    assert b"seen" in program.read_until(b"31 91")
    os.write(program.pair.master, b"q\n")
    assert b"after True" in program.read_to_end()


def test_resize_needs_the_main_thread(pair: PseudoterminalPair, local: Local) -> None:
    """In another thread, following the size is refused, and nothing is left open."""
    before = os.listdir("/dev/fd")
    caught: list[BaseException] = []

    def run() -> None:
        try:
            copy_terminal(pair.master, local.stdin, local.stdout, resize=True)
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert os.listdir("/dev/fd") == before
