"""What the second datagram to a closed port gives on an unconnected socket; prints "no error"."""

import errno
import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
    closed.bind(("127.0.0.1", 0))
    nowhere = closed.getsockname()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind(("127.0.0.1", 0))
    sender.sendto(b"x", nowhere)
    try:
        sender.sendto(b"x", nowhere)
        print("no error")
    except OSError as error:
        print(errno.errorcode[error.errno])
