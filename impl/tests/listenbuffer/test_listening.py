"""Binding: addresses, options, unix sockets' files, and who is in the way."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import Address, InvalidAddress, listen, parse_address
from kernelproof.impl.listenbuffer.backlog import effective_backlog, read_somaxconn
from kernelproof.impl.listenbuffer.listening import choose_backlog

# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:80", Address("tcp", "127.0.0.1", 80)),
        ("tcp://[::1]:0", Address("tcp", "::1", 0)),
        ("tcp6://:8080", Address("tcp6", "", 8080)),
        ("udp4://localhost:53", Address("udp4", "localhost", 53)),
        ("unix:/run/x.sock", Address("unix", path="/run/x.sock")),
        ("unixgram:rel.sock", Address("unixgram", path="rel.sock")),
        ("unix:x", Address("unix", path="x")),
        ("unix:@x", Address("unix", path="\0x")),
        ("unix:@" + "x" * 107, Address("unix", path="\0" + "x" * 107)),
        ("unixpacket:@name", Address("unixpacket", path="\0name")),
        ("vsock://2:1024", Address("vsock", "2", 1024)),
        ("vsock://any:7", Address("vsock", "", 7)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """An address is parsed into its parts and written back as it was."""
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "127.0.0.1:80", "http://x:80", "tcp://127.0.0.1", "tcp://x:http", "tcp://x:65536", "tcp://x:-1", "tcp://x:\u0661",
        "tcp://::1:80", "tcp://[::1", "tcp://[::1]80", "unix:", "unix:@", "unix:/a\0b", "unix:/" + "x" * 107,
        "unix:@" + "x" * 108, "vsock://host:1", "vsock://2:4294967296",
    ],
)  # fmt: skip
def test_bad_addresses(text: str) -> None:
    """Unknown protocols, bad ports, bare IPv6 addresses and paths that are too long are refused with what is wrong."""
    with pytest.raises(InvalidAddress):
        parse_address(text)


def test_bad_backlogs() -> None:
    """A negative backlog is refused; None is the kernel's bound; more than the bound is cut to it."""
    with pytest.raises(ValueError, match="backlog=-1"):
        choose_backlog(-1)
    bound = read_somaxconn()
    assert bound is not None
    assert choose_backlog(None) == choose_backlog(10**6) == bound
    assert effective_backlog(10**6, None) == 10**6
    assert read_somaxconn("/nonexistent/somaxconn") is None
    with listen("tcp://127.0.0.1:0", backlog=10**6) as listener:
        assert listener.effective_backlog == bound
    assert listener.effective_backlog == bound  # told after close too


def test_the_longest_abstract_name() -> None:
    """A name of 107 bytes, which needs no NUL behind it, is bound."""
    name = f"{os.getpid():0107}"
    with listen(f"unix:@{name}") as listener:
        assert listener.getsockname() == b"\0" + name.encode()


# --- in the way -------------------------------------------------------------------------------------------------------


def test_an_address_in_use_says_by_whom(tmp_path: Path) -> None:
    """For a port and for a path, the note on the error names the process."""
    with listen("tcp://127.0.0.1:0") as one:
        with pytest.raises(OSError, match="in use") as caught:
            listen(str(one.address))
        assert caught.value.errno == errno.EADDRINUSE
        assert f"in use by pid {os.getpid()}" in caught.value.__notes__[0]
    with listen(f"unix:{tmp_path}/x.sock") as one:
        with pytest.raises(OSError, match="in use") as caught:
            listen(str(one.address))
        assert caught.value.filename == f"{tmp_path}/x.sock"
        assert f"in use by pid {os.getpid()}" in caught.value.__notes__[0]
        with pytest.raises(OSError, match="in use") as caught:
            listen(f"unixgram:{tmp_path}/x.sock")
        assert "another type" in caught.value.__notes__[0]


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A regular file at the path is not replaced."""
    file = tmp_path / "x.sock"
    file.write_text("precious")
    with pytest.raises(OSError, match="in use") as caught:
        listen(f"unix:{file}")
    assert "is no socket" in caught.value.__notes__[0]
    assert file.read_text() == "precious"


def test_a_missing_directory_is_the_kernels_error(tmp_path: Path) -> None:
    """A unix socket's directory that does not exist is said by the kernel."""
    with pytest.raises(FileNotFoundError):
        listen(f"unix:{tmp_path}/none/x.sock")


AS_NOBODY = """
import encodings.idna, os, sys
from kernelproof.impl.listenbuffer import listen
os.setgid(65534); os.setuid(65534)
for address in ("tcp://127.0.0.1:79", f"unix:{sys.argv[1]}/x.sock"):
    try:
        listen(address)
    except PermissionError as error:
        print(error.errno)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_missing_privileges(tmp_path: Path) -> None:
    """A low port and a directory that may not be written are refused with the kernel's EACCES."""
    low = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, str(tmp_path)], capture_output=True, text=True, check=True)
    expected = ["13", "13"] if int(low) > 79 else ["13"]
    assert done.stdout.split() == expected


# --- options ----------------------------------------------------------------------------------------------------------


def test_dual_stack_is_explicit() -> None:
    """On :: an IPv4 client is served or refused as told."""
    for dual in (True, False):
        with listen("tcp://[::]:0", dual_stack=dual) as listener, socket.socket() as client:
            client.settimeout(60)
            assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == (0 if dual else 1)
            refused = client.connect_ex(("127.0.0.1", listener.address.port))
            assert refused == (0 if dual else errno.ECONNREFUSED)


def test_a_group_on_one_port() -> None:
    """With reuse_port several listeners share a port; one that did not ask is refused."""
    with listen("tcp://127.0.0.1:0", reuse_port=True) as one:
        with listen(str(one.address), reuse_port=True) as other:
            assert other.address == one.address
        with pytest.raises(OSError, match="in use"):
            listen(str(one.address))


def test_an_address_that_is_not_here_yet() -> None:
    """With freebind an address that no interface has is bound, without it refused."""
    with pytest.raises(OSError, match="Cannot assign") as caught:
        listen("tcp://192.0.2.77:0")
    assert caught.value.errno == errno.EADDRNOTAVAIL
    with listen("tcp://192.0.2.77:0", freebind=True) as listener:
        assert listener.address.host == "192.0.2.77"


def test_vsock() -> None:
    """Where the system has vsock, a listener is bound there; where it has not, the error is the kernel's or ours."""
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError:
        with pytest.raises(OSError, match=r".+"):
            listen("vsock://any:7001")
        return
    with listen("vsock://any:7001") as listener:
        assert listener.address.port == 7001


def test_duplicates_are_plain(tmp_path: Path) -> None:
    """A duplicate is a plain socket that no gate holds back, and reading the address needs no gate."""
    with listen(f"unix:{tmp_path}/x.sock") as listener, listener.dup() as plain:
        assert type(plain) is socket.socket
        assert plain.getsockname() == listener.getsockname()


LAZY = """
import os, sys
from kernelproof.impl.listenbuffer import listen
with listen(f"unix:@lazy-{os.getpid()}") as listener:
    assert not [name for name in sys.modules if name.startswith("kernelproof.impl.netlink")]
    print(listener.pending(), any(name == "kernelproof.impl.netlink.sock_diag" for name in sys.modules))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_netlink_is_loaded_when_it_is_asked() -> None:
    """To listen at a unix socket loads no netlink; to ask for its queue does."""
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "True"
