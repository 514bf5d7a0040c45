"""With what useradd ends for a name of 256 characters; prints 19. Run as root."""

import subprocess

argv = ["useradd", "-M", "-N", "u" * 256]
print(subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode)
