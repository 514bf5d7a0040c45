"""What shutdown gives on a bound TCP and on a bound unix socket without peers; prints ["ENOTCONN", "no error"]."""

import errno
import json
import socket

answers = []
for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "\0witness")):
    with socket.socket(family) as bound:
        bound.bind(address)
        try:
            bound.shutdown(socket.SHUT_RDWR)
            answers.append("no error")
        except OSError as error:
            answers.append(errno.errorcode[error.errno])
print(json.dumps(answers))
