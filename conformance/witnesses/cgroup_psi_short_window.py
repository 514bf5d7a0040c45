"""What pressure triggers with windows of 499999 and 10000001 us say; prints ["no error", "EINVAL"]. Run as root."""

import errno
import json
import os

answers = []
for window in (499_999, 10_000_001):
    fd = os.open("/proc/pressure/memory", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(fd, f"some 100000 {window}\0".encode())
        answers.append("no error")
    except OSError as error:
        answers.append(errno.errorcode[error.errno])
    os.close(fd)
print(json.dumps(answers))
