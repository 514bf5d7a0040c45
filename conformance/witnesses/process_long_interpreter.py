"""What execve(2) says to a script whose interpreter's path goes on beyond 255 characters; prints it.

What the first 255 characters name is a program that ends with 0.
"""

import errno
import os
import shutil
import tempfile

with tempfile.TemporaryDirectory() as folder:
    inner = os.path.join(folder, "d" * 100)
    os.mkdir(inner)
    program = os.path.join(inner, "n" * (255 - len("#!") - len(inner) - 1))
    shutil.copy("/bin/true", program)
    script = os.path.join(folder, "script")
    with open(script, "w") as file:
        file.write(f"#!{program}{'n' * 50}\n")
    os.chmod(script, 0o755)
    try:
        os.waitpid(os.posix_spawn(script, [script], {}), 0)
        print("no error")
    except OSError as error:
        print(errno.errorcode[error.errno])
