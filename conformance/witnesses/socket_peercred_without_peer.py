"""Whose the peer of a TCP listener is, which has none; prints [0, -1, -1]: pid, uid and gid as signed numbers."""

import json
import socket
import struct

with socket.create_server(("127.0.0.1", 0)) as listener:
    answer = listener.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    print(json.dumps(struct.unpack("3i", answer)))
