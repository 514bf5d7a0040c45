"""A machine and what can be asked of it: run a command, call a function, move files, any message of the protocol.

    with Template("6.12", profile="plain", time="real").clone() as machine:
        print(machine.run(["uname", "-r"]).stdout)

A machine is used by one thread, one request at a time. It is not reused: it is closed, and a new clone is made.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from kernelproof.vm.channel import Channel
from kernelproof.vm.completed import Completed, read_completed
from kernelproof.vm.console import escape_text
from kernelproof.vm.dialogue import PAUSE_SECONDS, Dialogue
from kernelproof.vm.errors import GuestError
from kernelproof.vm.forward_port import forward_port
from kernelproof.vm.guest.frames import BYTES, encode_frame, encode_message
from kernelproof.vm.messages import Plain, check_plain
from kernelproof.vm.process import Usage
from kernelproof.vm.pulled import PulledTree
from kernelproof.vm.pushed import pack_tree
from kernelproof.vm.running import Running
from kernelproof.vm.terminal_relay import relay_terminal

_CHUNK = 1024 * 1024
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Machine:
    """A running guest whose agent answers. Made by `Template.clone` and `SessionTemplate.clone`.

    Args:
        running: Its QEMU; owned from here on.
        facts: What it is: kernel, guest root, QEMU, accelerator, time, cpus.
        paused: The guest stands still: it loaded a template.
        virtual: Its time is virtual: it stands still between requests, or its clock would race.
        woken: It is no clone, and keeps the time and entropy that it has.
        restart: Makes a machine of the same template whose discs hold what it is given.
    """

    def __init__(
        self,
        running: Running,
        facts: Mapping[str, Plain],
        *,
        paused: bool,
        virtual: bool,
        woken: bool = False,
        restart: Callable[[Mapping[str, int]], Machine] | None = None,
    ) -> None:
        self.facts = facts
        self._running = running
        self._dialogue = Dialogue(running, paused=paused, virtual=virtual, woken=woken)
        self._restart = restart

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def seed(self) -> int:
        """What Python's `random` of a clone begins with."""
        return self._dialogue.seed

    def wake_with(self, seed: int, entropy: str) -> None:
        """Before the first request of a clone: let `random` and the kernel's entropy begin with these.

        Args:
            seed: Of `random`.
            entropy: 32 bytes in hexadecimal.
        """
        self._dialogue.seed, self._dialogue.entropy = seed, entropy

    def run(
        self,
        arguments: Sequence[str],
        *,
        input: bytes = b"",
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        """Run a command in the guest and wait for its end, and for that of all that holds its output open.

        Args:
            arguments: Argument vector; the first is looked up in the guest's PATH.
            input: Its standard input, at most 16 MiB.
            environment: All of its environment; the agent's by default.
            directory: Its working directory in the guest.
            timeout: Seconds of the host's clock, without those in which the machine waits for a processor.

        Raises:
            GuestError: it can't be started.
            MachineLost: kind "hang" when the timeout passes, and all others.
            FrameError: too much input.
            RuntimeError: another request is under way, or the machine is closed.
        """
        message: dict[str, object] = {"kind": "exec", "argv": list(arguments)}
        if environment is not None:
            message["environment"] = dict(environment)
        if directory is not None:
            message["directory"] = directory
        streams: list[bytes] = []
        with self._dialogue.conversing(message, timeout, encode_frame(BYTES, input)) as deadline:
            answer, _ = self._dialogue.receive_answer("exec", deadline)
            if answer["kind"] == "exec-result":
                streams = [self._dialogue.receive_bytes(deadline) for _ in range(2)]
        _raise_guest_error("exec", answer)
        return read_completed(tuple(arguments), answer, streams)

    def call(self, function: str, *arguments: Plain, timeout: float = 60.0, **keywords: Plain) -> Plain:
        """Call a function in the guest.

        Args:
            function: "module:name", importable in the guest.
            arguments: Plain JSON values.
            timeout: Seconds of the host's clock, without those in which the machine waits for a processor.
            keywords: Plain JSON values.

        Returns:
            What the function returned: plain JSON values; a tuple comes back as a list.

        Raises:
            GuestError: the function raised, can't be imported, or returned what is not plain.
            ValueError, TypeError: not the name of a function, or not plain values.
            MachineLost, RuntimeError: as for `run`.
        """
        if not _FUNCTION.fullmatch(function):
            raise ValueError(f"{function!r} is not of the form module:name")
        check_plain([*arguments, keywords])
        message = {"kind": "call", "function": function, "arguments": list(arguments), "keywords": keywords}
        return self.request(message, timeout=timeout).get("value")

    def push(self, source: bytes | Path, destination: str, *, mode: int = 0o644, timeout: float = 120.0) -> None:
        """Put a file, or a tree, into the guest.

        Args:
            source: The content of a file; or a path on the host: a regular file becomes `destination`, and what is
                below a directory comes to lie below it, with symbolic links as they are.
            destination: Absolute path in the guest; parents are made.
            mode: Permissions of a file given by its content.
            timeout: Seconds of the host's clock, without those in which the machine waits for a processor.

        Raises:
            GuestError: the guest can't write it.
            OSError: the host can't read it.
            MachineLost, RuntimeError: as for `run`.
        """
        if isinstance(source, Path) and source.is_dir():
            self.push_archive(pack_tree(source), destination, timeout=timeout)
            return
        if isinstance(source, Path):
            mode = source.stat().st_mode & 0o7777
            source = source.read_bytes()
        message: dict[str, object] = {"kind": "push", "form": "file", "path": destination, "mode": mode}
        self._push(message, source, timeout)

    def push_archive(self, archive: bytes, destination: str, *, timeout: float = 120.0) -> None:
        """Unpack a tar archive below a directory of the guest; errors as for `push`."""
        self._push({"kind": "push", "form": "tar", "path": destination}, archive, timeout)

    def pull(
        self, path: str, directory: int, name: str, *, limit_bytes: int = 64 * 1024 * 1024, timeout: float = 120.0
    ) -> int:
        """Copy a regular file, or all regular files of a tree, out of the guest.

        The guest's paths are not followed: each part is created or opened below `directory` without following a
        symbolic link, only regular files are written, none that exists is touched.

        Args:
            path: Absolute path in the guest.
            directory: Descriptor of a directory of the host; the caller closes it.
            name: What the file or tree is to be called in it.
            limit_bytes: At most so much is taken.
            timeout: Seconds of the host's clock, without those in which the machine waits for a processor.

        Returns:
            The number of files written.

        Raises:
            GuestError: the guest can't read it.
            MachineLost: kind "protocol": more than `limit_bytes`, or a path that leaves `name`; and all others.
            OSError: EEXIST, `name` exists; and what else the host refuses.
            RuntimeError: as for `run`.
        """
        tree = PulledTree(directory, name, limit_bytes)
        with self._dialogue.conversing({"kind": "pull", "path": path}, timeout) as deadline:
            while not (got := self._dialogue.receive_answer("pull", deadline))[1]:
                with tree.writing(str(got[0]["path"])) as write:
                    while chunk := self._dialogue.receive_bytes(deadline):
                        write(chunk)
        _raise_guest_error("pull", got[0])
        return tree.files

    def request(self, message: Mapping[str, object], *, timeout: float) -> dict[str, Plain]:
        """Send a message and return its one answer.

        Raises:
            GuestError: the answer is an error.
            MachineLost, RuntimeError: as for `run`.
            LookupError: a kind of message that the protocol does not have.
        """
        *_, answer = self.stream(message, timeout=timeout)
        return answer

    def stream(self, message: Mapping[str, object], *, timeout: float) -> Iterator[dict[str, Plain]]:
        """Send a message and yield its answers as they come; the last is of a final kind.

        One that is left early closes the machine: there is no way back into step. After the last answer that is the
        quickest end of a machine that nobody needs any more.

        Raises:
            GuestError, MachineLost, RuntimeError, LookupError: as for `request`, while iterating.
        """
        kind = str(message["kind"])
        with self._dialogue.conversing(message, timeout) as deadline:
            final = False
            while not final:
                answer, final = self._dialogue.receive_answer(kind, deadline)
                if answer["kind"] != "error":
                    yield answer
        _raise_guest_error(kind, answer)

    @contextmanager
    def attending(self, message: Mapping[str, object]) -> Iterator[Channel]:
        """Open a conversation of streams and hand out the channel that it is held on; see `kernelproof.vm.attending`.

        Raises:
            MachineLost: whatever the channel raises inside.
            RuntimeError: another request is under way, the machine is closed, or its time is virtual: a guest whose
                clock leaps can't wait for anyone outside.
        """
        if self._dialogue.virtual:
            raise RuntimeError("this machine's time is virtual: make its template with time='real'")
        with self._dialogue.conversing(message, math.inf):
            yield self._running.channel

    def relay_terminal(self, source: int, sink: int) -> None:
        """Relay between a terminal and the second port of a machine in real time until the agent says something.

        Args:
            source: Descriptor of what is typed.
            sink: Descriptor of what is shown.

        Raises:
            MachineLost: whatever the channel raises inside.
            RuntimeError: the machine has no second port.
            OSError: as read(2) and write(2) refuse.
        """
        with self._running.losing():
            relay_terminal(self._running.channel, source, sink)

    def read_attended(self, answer: Mapping[str, Plain]) -> int:
        """What the last answer of such a conversation means: the program's return code.

        Raises:
            GuestError: the program could not be started.
        """
        _raise_guest_error("attend", answer)
        return int(str(answer["returncode"]))

    def forward_port(self, guest: int | str, host: int | str = 0) -> AbstractContextManager[tuple[str | int, ...]]:
        """A port of this host that leads into the guest, while the block of a `with` runs; no network card is needed.

        The machine takes no other request meanwhile: start the server before.

        Args:
            guest: What the guest connects to: a TCP port, "host:port", the path of a unix socket, or "vsock:port".
            host: Where this host listens: a TCP port of 127.0.0.1 (0 for any), "address:port", or a path.

        Returns:
            A context manager that gives the address and port, or the path.

        Raises:
            ValueError: a text that is none of these.
            OSError: as bind(2) refuses; EADDRINUSE.
            MachineLost, RuntimeError: as for `attending`.
        """
        return forward_port(self, guest, host)

    def wait_for_hello(self, timeout: float) -> dict[str, Plain]:
        """Wait for the agent of a machine that boots.

        Raises:
            MachineLost: it did not come; the log holds the end of the console.
        """
        with self._running.losing("load"):  # no NMI: stacks would hide what the console says of the boot
            answer, _ = self._dialogue.receive_answer("hello", time.monotonic() + timeout)
        return answer

    def power_cut(self) -> Machine:
        """Cut the power: this machine is gone, and a new clone finds its discs as they survived.

        A disc that loses has what was flushed and nothing else (profile `disk`: `/dev/disc/scratch`); other discs are
        as in the template, which is the machine that the clone is otherwise.

        Raises:
            RuntimeError: a request is under way, the machine is closed, or no disc of it loses anything.
            MachineLost: kind "qemu", and what `Template.clone` raises.
        """
        self._dialogue.refuse_use("a request is under way")
        if self._restart is None or not self._running.discs.lose:
            raise RuntimeError("no disc of this machine loses what is not flushed: the profile `disk` has one")
        survivors = self._running.cut_power()
        try:
            return self._restart(survivors)
        finally:
            for descriptor in survivors.values():
                os.close(descriptor)

    def save(self, state: int) -> dict[str, int]:
        """Stop the guest and save its device state; the machine is only good to be closed after.

        Args:
            state: Descriptor of an empty file; the caller closes it.

        Returns:
            Descriptors of what its discs hold, by name; the caller closes them.

        Raises:
            MachineLost: kind "load".
        """
        self._running.save(state)
        return self._running.discs.contents()

    @contextmanager
    def standing_still(self, state: int) -> Iterator[Mapping[str, int]]:
        """Write down all that a machine in real time is, memory included; it goes on when the block ends.

        Args:
            state: Descriptor of an empty file; the caller closes it.

        Returns:
            Descriptors of what its discs hold, by name, for the block.

        Raises:
            MachineLost: kind "load".
        """
        contents = self.save(state)
        try:
            yield contents
        finally:
            for descriptor in contents.values():
                os.close(descriptor)
            self._running.wait_until_saved()
            with self._running.losing("load"):
                self._running.go_on(time.monotonic() + PAUSE_SECONDS)

    def say(self, message: Mapping[str, object]) -> None:
        """Send a message within a conversation that allows it.

        Raises:
            MachineLost: it does not take it.
        """
        with self._running.losing():
            self._running.channel.send(encode_message(message), time.monotonic() + PAUSE_SECONDS)

    def log(self) -> str:
        """The end of the kernel log as the console showed it since this machine started, safe to show."""
        return self._running.log()

    def close(self) -> Usage:
        """Kill the machine and say what it used; a second call changes nothing."""
        return self._running.close()

    def _push(self, message: dict[str, object], content: bytes, timeout: float) -> None:
        chunks = [content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK)]
        raw = b"".join(encode_frame(BYTES, chunk) for chunk in (*chunks, b""))
        with self._dialogue.conversing(message, timeout, raw) as deadline:
            answer, _ = self._dialogue.receive_answer("push", deadline)
        _raise_guest_error("push", answer)


def _raise_guest_error(kind: str, answer: Mapping[str, Plain]) -> None:
    if answer["kind"] == "error":
        text = escape_text(str(answer["text"]))
        raise GuestError(kind, escape_text(str(answer["type"])), text)
