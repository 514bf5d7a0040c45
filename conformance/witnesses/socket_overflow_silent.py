"""What a client gets at a full queue with tcp_abort_on_overflow 1; prints "ETIMEDOUT". Run as root."""

import errno
import socket

with open("/proc/sys/net/ipv4/tcp_abort_on_overflow", "r+") as setting:
    before = setting.read()
    setting.seek(0)
    setting.write("1")
    setting.flush()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as late:
        first = socket.create_connection(listener.getsockname())
        late.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        try:
            late.connect(listener.getsockname())
            print("no error")
        except OSError as error:
            print(errno.errorcode[error.errno])
        first.close()
    setting.seek(0)
    setting.write(before)
