"""What selectors, asyncio and the servers of the standard library see of a gated listener."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import select
import selectors
import socketserver
import threading
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.listenbuffer import (
    GatedListener,
    new_listen_buffer,
)
from kernelproof.impl.tests.listenbuffer.clients import client_of

# --- what a selector sees ---------------------------------------------------------------------------------------------


@pytest.mark.rule("L9")
@pytest.mark.parametrize("selector", ["select", "poll", "epoll"])
def test_selectors_do_not_spin(tcp: GatedListener, selector: str) -> None:
    """Watched from before the activation, the listener is readable only while the gate is open and one waits."""
    number = tcp.fileno()

    def readable() -> bool:
        if selector == "select":
            return bool(select.select([tcp], [], [], 0.02)[0])
        watch: Any = select.poll() if selector == "poll" else select.epoll()
        watch.register(tcp, select.POLLIN)
        return bool(watch.poll(20 if selector == "poll" else 0.02))

    with client_of(tcp):
        assert not readable()
        tcp.activate()
        assert readable()
        tcp.gate.pause()
        assert not readable()
        tcp.gate.open()
        assert readable()
        tcp.accept()[0].close()
        assert not readable()
    assert tcp.fileno() == number


class CountingSelector(selectors.EpollSelector):
    """Counts how often an event loop looked."""

    looks = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Look."""
        self.looks += 1
        return super().select(timeout)


@pytest.mark.rule("L9")
def test_asyncio(tmp_path: Path) -> None:
    """An asyncio server takes the listener, waits without spinning, and serves after an asyncio event."""
    selector = CountingSelector()

    async def main() -> list[bytes]:
        activate = asyncio.Event()
        listener = new_listen_buffer("unix", str(tmp_path / "a.sock"), activate)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read(4)).upper())
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(handle, sock=listener)
        answers = []
        async with server:
            clients = [await asyncio.open_unix_connection(str(tmp_path / "a.sock")) for _ in range(3)]
            for _, writer in clients:
                writer.write(b"ping")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(clients[0][0].read(4), 0.1)
            assert listener.pending() == 3
            before = selector.looks
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(clients[0][0].read(4), 0.3)
            assert selector.looks - before < 20
            activate.set()
            for reader, writer in clients:
                answers.append(await reader.read(4))
                writer.close()
                await writer.wait_closed()
        return answers

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        assert runner.run(main()) == [b"PING"] * 3


class Hello(http.server.BaseHTTPRequestHandler):
    """Says hello."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", [http.server.HTTPServer, http.server.ThreadingHTTPServer, socketserver.TCPServer])
def test_servers_of_the_standard_library(tcp: GatedListener, kind: type[socketserver.TCPServer]) -> None:
    """socketserver and http.server serve on a listener: a client that came before the server is answered."""
    client = http.client.HTTPConnection("127.0.0.1", tcp.address.port, timeout=60)
    client.request("GET", "/")
    server = kind(tcp.getsockname(), Hello, bind_and_activate=False)
    server.socket.close()
    server.socket = tcp
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    assert tcp.pending() == 1
    tcp.activate()
    assert client.getresponse().read() == b"hello"
    server.shutdown()
    thread.join()
    client.close()
