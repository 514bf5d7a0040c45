"""Ask a user database service over Varlink: JSON objects on a unix socket, each ended by a NUL byte.

    {"method": "io.systemd.UserDatabase.GetUserRecord",
     "parameters": {"userName": "ada", "service": "io.systemd.Multiplexer"}}
    {"parameters": {"record": {"userName": "ada", …}, "incomplete": false}}

This speaks to a service of the host that is trusted to name users, so it is never asked for a container's users. It is
not a general Varlink client.

Source: systemd.io, User/Group Record Lookup API via Varlink; varlink.org, Method Calls.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from kernelproof.impl.user.errors import UserDatabaseError
from kernelproof.impl.user.record_fields import ANY_MACHINE, Json, Machine, RecordError, parse_json
from kernelproof.impl.user.userdb import GroupRecord, UserRecord, parse_group_record, parse_user_record

INTERFACE = "io.systemd.UserDatabase"
MULTIPLEXER = "io.systemd.Multiplexer"
MESSAGE_LIMIT = 16 << 20  # bytes


class VarlinkError(UserDatabaseError, RuntimeError):
    """The service answered with an error, or with something else than an answer."""


class VarlinkUserdb:
    """A user database service.

    Args:
        path: of its socket.
        service: what it is called; the multiplexer asks all others.
        timeout_seconds: for one question, all its answers included.
        machine: what perMachine sections are for.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = f"/run/systemd/userdb/{MULTIPLEXER}",
        service: str = MULTIPLEXER,
        *,
        timeout_seconds: float = 10.0,
        machine: Machine = ANY_MACHINE,
    ) -> None:
        self._path = os.fspath(path)
        self._service = service
        self._timeout_seconds = timeout_seconds
        self._machine = machine

    def user(self, name: str) -> UserRecord | None:
        """Return the record of a user by name; None if the service has none.

        Raises:
            OSError: ENOENT or ECONNREFUSED (no such service), TimeoutError (it did not answer in time).
            VarlinkError: the service answered with an error.
            RecordError: the record is not valid.
        """
        return next(self._users({"userName": name}, more=False), None)

    def user_by_uid(self, uid: int) -> UserRecord | None:
        """Return the record of a user by uid; as user."""
        return next(self._users({"uid": uid}, more=False), None)

    def users(self) -> tuple[UserRecord, ...]:
        """Return all user records that the service lists; as user."""
        return tuple(self._users({}, more=True))

    def group(self, name: str) -> GroupRecord | None:
        """Return the record of a group by name; as user."""
        return next(self._groups({"groupName": name}, more=False), None)

    def group_by_gid(self, gid: int) -> GroupRecord | None:
        """Return the record of a group by gid; as user."""
        return next(self._groups({"gid": gid}, more=False), None)

    def groups(self) -> tuple[GroupRecord, ...]:
        """Return all group records that the service lists; as user."""
        return tuple(self._groups({}, more=True))

    def memberships(self) -> tuple[tuple[str, str], ...]:
        """Return (user, group) for each membership that the service lists, sorted; raises as user."""
        answers = self._ask("GetMemberships", {}, more=True)
        return tuple(sorted({(_string(each, "userName"), _string(each, "groupName")) for each in answers}))

    def _users(self, wanted: Json, *, more: bool) -> Iterator[UserRecord]:
        for answer in self._ask("GetUserRecord", wanted, more=more):
            yield parse_user_record(_record(answer), self._path, machine=self._machine)

    def _groups(self, wanted: Json, *, more: bool) -> Iterator[GroupRecord]:
        for answer in self._ask("GetGroupRecord", wanted, more=more):
            yield parse_group_record(_record(answer), self._path, machine=self._machine)

    def _ask(self, method: str, wanted: Json, *, more: bool) -> Iterator[Json]:
        """Yield the parameters of each answer; none if no record was found."""
        question: Json = {"method": f"{INTERFACE}.{method}", "parameters": {**wanted, "service": self._service}}
        if more:
            question["more"] = True
        deadline = time.monotonic() + self._timeout_seconds
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._timeout_seconds)
            connection.connect(self._path)
            connection.sendall(json.dumps(question).encode() + b"\0")
            pending = bytearray()
            while True:
                answer = parse_json(self._receive(connection, pending, deadline), self._path)
                error = answer.get("error")
                if error == f"{INTERFACE}.NoRecordFound":
                    return
                if error is not None:
                    raise VarlinkError(f"{self._path}: {question['method']}: {str(error)[:200]}")
                yield _parameters(answer)
                if not more or answer.get("continues") is not True:
                    return

    def _receive(self, connection: socket.socket, pending: bytearray, deadline: float) -> str:
        while b"\0" not in pending:
            if len(pending) > MESSAGE_LIMIT:
                raise VarlinkError(f"{self._path}: an answer is longer than {MESSAGE_LIMIT} bytes")
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self._path}: no answer in {self._timeout_seconds} seconds")
            connection.settimeout(left)
            data = connection.recv(1 << 16)
            if not data:
                raise VarlinkError(f"{self._path}: the service closed the connection without an answer")
            pending += data
        message, _, rest = bytes(pending).partition(b"\0")
        pending[:] = rest
        return message.decode("utf-8", "surrogateescape")


def _parameters(answer: Json) -> Json:
    parameters = answer.get("parameters", {})
    if not isinstance(parameters, dict):
        raise VarlinkError("an answer's parameters are no object")
    return parameters


def _record(parameters: Json) -> str:
    record: Any = parameters.get("record")
    if not isinstance(record, dict):
        raise RecordError("an answer has no record")
    # What a service adds for the moment is not part of the record.
    return json.dumps({key: value for key, value in record.items() if key not in ("status", "secret")})


def _string(parameters: Json, key: str) -> str:
    value = parameters.get(key)
    if not isinstance(value, str):
        raise VarlinkError(f"an answer has no string {key!r}")
    return value
