"""How many user namespaces can be made in each other; prints the number. Run as root."""

import os

made = 0
while made < 100:
    try:
        os.unshare(os.CLONE_NEWUSER)
    except OSError:
        break
    made += 1
    for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
print(made)
