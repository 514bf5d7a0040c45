"""What a bridge without spanning tree answers to forward delays of 0, 1.99 and 30.01 seconds; needs CAP_NET_ADMIN."""

import errno
import fcntl
import json
import socket

SIOCBRADDBR, SIOCBRDELBR = 0x89A0, 0x89A1
NAME = b"witness0\0"
with socket.socket() as control:
    fcntl.ioctl(control, SIOCBRADDBR, NAME)
    answers = []
    for delay in ("0", "199", "3001"):
        try:
            with open("/sys/class/net/witness0/bridge/forward_delay", "w") as file:
                file.write(delay)
            answers.append("no error")
        except OSError as error:
            answers.append(errno.errorcode[error.errno])
    fcntl.ioctl(control, SIOCBRDELBR, NAME)
print(json.dumps(answers))
