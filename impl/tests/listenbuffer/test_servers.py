"""The servers that people run, from PyPI: they take a listener that was opened before they started."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from kernelproof.impl.listenbuffer import GatedListener, listen
from kernelproof.impl.listenbuffer.inherit import spawn_with_sockets


def waiting_client(listener: GatedListener) -> http.client.HTTPConnection:
    """A client that has sent its request and waits."""
    client = http.client.HTTPConnection("127.0.0.1", listener.address.port, timeout=30)
    client.request("GET", "/")
    return client


def test_uvicorn() -> None:
    """uvicorn serves on a listener: clients that came before it started are answered after the activation."""
    uvicorn = pytest.importorskip("uvicorn")

    async def application(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    with listen("tcp://127.0.0.1:0") as listener:
        clients = [waiting_client(listener) for _ in range(5)]
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        while not server.started:
            assert thread.is_alive()
        assert listener.pending() == 5
        listener.activate()
        assert [client.getresponse().read() for client in clients] == [b"hello"] * 5
        for client in clients:
            client.close()
        server.should_exit = True
        thread.join(30)


APPLICATION = """
def application(environment, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""


def test_gunicorn(tmp_path: Any) -> None:
    """gunicorn takes the socket in systemd's way: clients that came before it was started are answered."""
    pytest.importorskip("gunicorn")
    (tmp_path / "application.py").write_text(APPLICATION)
    with listen("tcp://127.0.0.1:0") as listener, ExitStack() as stack:
        clients = [waiting_client(listener) for _ in range(5)]
        command = [sys.executable, "-m", "gunicorn", "--chdir", str(tmp_path), "--log-level", "error", "application"]
        pid = spawn_with_sockets(command, {"web": listener})
        stack.callback(lambda: os.waitpid(pid, 0))
        stack.callback(lambda: os.kill(pid, 15))
        assert [client.getresponse().read() for client in clients] == [b"hello"] * 5
        for client in clients:
            client.close()


def test_the_standard_librarys_server_as_a_child(tmp_path: Any) -> None:
    """http.server in a process of its own takes an inherited socket through `inherit`."""
    program = """
import http.server
from kernelproof.impl.listenbuffer.inherit import inherit
(found,) = inherit()
server = http.server.HTTPServer(("", 0), http.server.SimpleHTTPRequestHandler, bind_and_activate=False)
server.socket.close()
server.socket = found.check(listening=True).listener()
server.socket.activate()
server.handle_request()
"""
    (tmp_path / "index.html").write_text("hello")
    with listen("tcp://127.0.0.1:0") as listener:
        client = waiting_client(listener)
        old = os.getcwd()
        os.chdir(tmp_path)
        try:
            pid = spawn_with_sockets([sys.executable, "-c", program], {"web": listener})
        finally:
            os.chdir(old)
        assert client.getresponse().read() == b"hello"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        client.close()


def test_systemd_socket_activation_by_its_own_tool() -> None:
    """systemd-socket-activate, where it is installed, passes a socket that `inherit` finds."""
    tool = "/usr/bin/systemd-socket-activate"
    if not os.path.exists(tool):
        pytest.skip("systemd-socket-activate is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = "from kernelproof.impl.listenbuffer.inherit import inherit; print(inherit()[0].address)"
    kept = ["-E", "PYTHONPATH"] if "PYTHONPATH" in os.environ else []  # the tool clears the environment
    command = [tool, *kept, "-l", f"127.0.0.1:{port}", sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as manager:
        assert manager.stderr is not None
        manager.stderr.readline()
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            assert manager.communicate(timeout=30)[0] == f"tcp://127.0.0.1:{port}\n"
