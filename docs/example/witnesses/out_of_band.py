"""Whether a unix stream socket takes MSG_OOB; prints "no error" since Linux 5.15, ENOTSUP before."""

import errno
import socket

sender, receiver = socket.socketpair()
with sender, receiver:
    try:
        sender.send(b"!", socket.MSG_OOB)
    except OSError as error:
        print(errno.errorcode[error.errno])
    else:
        print("no error")
