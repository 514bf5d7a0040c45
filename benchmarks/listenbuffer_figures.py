"""The listener's figures, each beside a plain socket on the same work in one run.

    python benchmarks/listenbuffer_figures.py [NAME …]

`crowd` needs root: 10,000 waiting clients need a larger `somaxconn`, which it sets in a network namespace of its own.
Prints one line a figure; exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from kernelproof.impl.listenbuffer import Gate, GatedListener, listen
from kernelproof.impl.listenbuffer.handover import Generations, take_over

CROWD = 10_000
BATCH = 500


def line(name: str, value: float, unit: str, goal: float, note: str = "") -> bool:
    """Print a figure; return whether its goal is met."""
    met = value <= goal
    print(f"{'ok  ' if met else 'MISS'} {name:62} {value:10.4g} {unit}  goal <= {goal:g}  {note}", flush=True)
    return met


# --- a crowd before the door is open ----------------------------------------------------------------------------------


def figure_crowd() -> bool:
    """Run `crowd_here` in a network namespace with room for all."""
    if os.geteuid() != 0:
        print("skip crowd: needs root for a network namespace")
        return True
    room = f"ip link set lo up && sysctl -qw net.core.somaxconn={CROWD + 100}"
    script = f"{room} && exec {sys.executable} {__file__} --here crowd"
    return subprocess.run(["unshare", "--net", "bash", "-c", script], check=False).returncode == 0


def crowd_here() -> bool:
    """Ten thousand clients connect and send, then the gate opens, and each gets its own answer."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * CROWD), hard))
    refused, lost = 0, 0
    with ExitStack() as stack, listen("tcp://127.0.0.1:0") as listener:
        clients = []
        began = time.perf_counter()
        for number in range(CROWD):
            try:
                client = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=5))
            except OSError:
                refused += 1
                continue
            client.sendall(b"%d" % number)
            clients.append((number, client))
        connected = time.perf_counter() - began
        waiting = listener.pending()
        listener.activate()
        began = time.perf_counter()
        for _ in clients:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(20) + b"!")
        served = time.perf_counter() - began
        lost = sum(client.recv(20) != b"%d!" % number for number, client in clients)
    note = f"of {listener.effective_backlog} {waiting} wait, connected in {connected:.2f} s, served in {served:.2f} s"
    return line(f"clients refused of {CROWD:,}", refused, "", 0, note) & line("clients lost", lost, "", 0)


# --- the price of an open gate ----------------------------------------------------------------------------------------


def accept_many(listener: socket.socket, address: object) -> float:
    """Accept a batch that waits already; return seconds of CPU for each."""
    clients = []
    for _ in range(BATCH):
        client = socket.socket()
        client.connect(address)  # type: ignore[arg-type]
        clients.append(client)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    assert poll.poll(5000)
    accepted = []
    accept: Callable[[], tuple[socket.socket, object]] = listener.accept
    began = time.process_time()
    for _ in range(BATCH):
        accepted.append(accept())
    used = time.process_time() - began
    for connection in [*clients, *(found for found, _ in accepted)]:
        connection.close()
    return used / BATCH


def figure_accept() -> bool:
    """Accepts behind an open gate and on a plain socket, in turn."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with (
        listen("tcp://127.0.0.1:0", gate=Gate(is_open=True)) as gated,
        socket.create_server(("127.0.0.1", 0), backlog=4096) as plain,
    ):
        ours, other = [], []
        for _ in range(40):
            ours.append(accept_many(gated, gated.getsockname()))
            other.append(accept_many(plain, plain.getsockname()))
    ours.sort()
    other.sort()
    best, median = (min(ours), min(other)), (ours[20], other[20])
    pairs = ", ".join(f"{one * 1e6:.2f} / {two * 1e6:.2f} us" for one, two in (best, median))
    note = f"ours / plain, best and median: {pairs}"
    met = line("accept behind an open gate / plain accept", best[0] / best[1], "x", 1.03, note)
    return line("what the gate adds to an accept", (best[0] - best[1]) * 1e6, "us", 2.0) & met


# --- hand-over --------------------------------------------------------------------------------------------------------


def serve(listener: GatedListener) -> None:
    """Accept and answer until closed."""

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(10)

    threading.Thread(target=loop, daemon=True).start()


def figure_handover() -> bool:
    """A hand-over of 16 sockets, from the request to the retirement, probes of all of them included."""
    times = []
    with tempfile.TemporaryDirectory() as directory:
        for run in range(15):
            control = f"{directory}/control{run}"
            listeners = {f"s{number}": listen(f"unix:{directory}/{run}.{number}.sock") for number in range(16)}
            old = Generations(control, listeners)
            for listener in listeners.values():
                listener.activate()
                serve(listener)
            began = time.perf_counter()
            taken = take_over(control)
            moved = time.perf_counter() - began
            for listener in taken.listeners.values():
                serve(listener)
            new = taken.ready()
            times.append((moved, time.perf_counter() - began))
            old.retired.wait(5)
            for listener in [*listeners.values(), *taken.listeners.values()]:
                listener.close()
            new.close()
    note = f"with 16 proofs {min(total for _, total in times) * 1e3:.2f} ms"
    return line("hand-over of 16 sockets", min(moved for moved, _ in times) * 1e3, "ms", 5.0, note)


GENERATION = """
import sys, threading
from kernelproof.impl.listenbuffer import listen
from kernelproof.impl.listenbuffer.handover import Generations, take_over
control = sys.argv[1]
retired = threading.Event()
try:
    taken = take_over(control)
    web = taken.listeners["web"]
except FileNotFoundError:
    taken, web = None, listen("tcp://127.0.0.1:0")
def serve():
    while True:
        try:
            connection, _ = web.accept()
        except OSError:
            return
        with connection:
            connection.sendall(connection.recv(100))
threads = [threading.Thread(target=serve) for _ in range(2)]
for thread in threads:
    thread.start()
if taken is None:
    web.activate()
    generations = Generations(control, {"web": web}, on_retire=retired.set)
else:
    generations = taken.ready(on_retire=retired.set)
print(web.address.port, flush=True)
retired.wait()
web.close()
for thread in threads:
    thread.join()
"""

CLIENT = """
import select, socket, sys, time
port, seconds, rate = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
began, count, lost = time.monotonic(), 0, 0
while (now := time.monotonic() - began) < seconds:
    if count > now * rate:  # ahead of the asked rate: give way
        select.select([], [], [], 0.001)
        continue
    count += 1
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"request")
            lost += client.recv(100) != b"request"
    except OSError as error:
        print(error, file=sys.stderr)
        lost += 1
print(count, lost)
"""


def figure_restart() -> bool:
    """Restarts while clients ask at 2,000 requests a second altogether."""
    seconds, processes = 10.0, []
    with tempfile.TemporaryDirectory() as directory:
        control = str(Path(directory) / "control")

        def start() -> tuple[subprocess.Popen[str], int]:
            process = subprocess.Popen([sys.executable, "-c", GENERATION, control], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            return process, int(process.stdout.readline())

        present, port = start()
        command = [sys.executable, "-c", CLIENT, str(port), str(seconds), "1000"]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        began, restarts = time.monotonic(), 0
        while time.monotonic() - began < seconds - 1.5:
            following, _ = start()
            processes.append(present)
            present, restarts = following, restarts + 1
        counts = [client.communicate()[0].split() for client in clients]
        for process in [*processes, present]:
            process.kill()
            process.communicate()
    total, lost = sum(int(count) for count, _ in counts), sum(int(lost) for _, lost in counts)
    return line("requests lost", lost, "", 0, f"{total:,} requests ({total / seconds:,.0f}/s), {restarts} restarts")


FIGURES = {"accept": figure_accept, "handover": figure_handover, "restart": figure_restart, "crowd": figure_crowd}


def main() -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--here", action="store_true", help="crowd: in this network namespace")
    given = parser.parse_args()
    if given.here:
        return 0 if crowd_here() else 1
    system = f"Linux {os.uname().release}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"# python {sys.version.split()[0]}, {system}")
    return 0 if all([FIGURES[name]() for name in given.names or FIGURES]) else 1


if __name__ == "__main__":
    sys.exit(main())
