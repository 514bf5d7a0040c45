"""What accept gives for a TCP connection that was reset while it waited; prints "no error"."""

import errno
import socket
import struct

with socket.create_server(("127.0.0.1", 0)) as listener:
    client = socket.create_connection(listener.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
        print("no error")
    except OSError as error:
        print(errno.errorcode[error.errno])
