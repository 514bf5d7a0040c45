"""Whether an empty file ada:crew.membership makes ada a member of crew; prints false. Run as root, with nss-systemd."""

import json
import os
import subprocess

os.makedirs("/etc/userdb", exist_ok=True)
for name, text in (
    ("ada.user", json.dumps({"userName": "ada", "uid": 4001})),
    ("crew.group", json.dumps({"groupName": "crew", "gid": 4100})),
    ("ada:crew.membership", ""),
):
    with open(f"/etc/userdb/{name}", "w", encoding="utf-8") as file:
        file.write(text)
for target, link in (("ada.user", "4001.user"), ("crew.group", "4100.group")):
    if not os.path.lexists(f"/etc/userdb/{link}"):
        os.symlink(target, f"/etc/userdb/{link}")
found = subprocess.run(["id", "-G", "ada"], stdout=subprocess.PIPE, check=True, text=True).stdout
print(json.dumps("4100" in found.split()))
