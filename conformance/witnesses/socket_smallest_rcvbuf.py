"""What SO_RCVBUF reads after 1 was set; prints 2304 on 64-bit kernels."""

import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    print(receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
