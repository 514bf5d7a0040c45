"""What pidfd_open(2) says to the id of a thread that leads no group; prints the errno's name."""

import errno
import os
import threading

answers: list[str] = []


def ask():
    try:
        os.close(os.pidfd_open(threading.get_native_id()))
        answers.append("no error")
    except OSError as error:
        answers.append(errno.errorcode[error.errno])


thread = threading.Thread(target=ask)
thread.start()
thread.join()
print(*answers)
