"""/etc/nsswitch.conf: which services are asked for users and groups, in which order.

    passwd: files [NOTFOUND=return] systemd
    group:  files [SUCCESS=merge] systemd

This reads the file; kernelproof.impl.user.sources does what it says.
"""

from __future__ import annotations

from typing import NamedTuple

from kernelproof.impl.user.records import Diagnostic

STATUSES = ("success", "notfound", "unavail", "tryagain")
ACTIONS = ("return", "continue", "merge")

# What happens after each status without action items.
_DEFAULT_ACTIONS = ("return", "continue", "continue", "continue")


class ServiceRule(NamedTuple):
    """A service and what to do after each status of it, in the order of STATUSES."""

    name: str
    actions: tuple[str, str, str, str] = _DEFAULT_ACTIONS

    def action(self, status: str) -> str:
        """Return what to do after a status."""
        return self.actions[STATUSES.index(status)]


_FILES = (ServiceRule("files"),)
_SUBID_SERVICES = ("files", "sss", "ldap", "nis")


class Nsswitch(NamedTuple):
    """The file: each database with its services, in order."""

    databases: tuple[tuple[str, tuple[ServiceRule, ...]], ...]
    diagnostics: tuple[Diagnostic, ...] = ()

    def services(self, database: str) -> tuple[ServiceRule, ...]:
        """Return the services of a database: the files, if it is not named."""
        # The last line of a database counts, as with glibc.
        named = [services for name, services in self.databases if name == database]
        return named[-1] if named else _FILES

    def subid_service(self, known: tuple[str, ...] = _SUBID_SERVICES) -> str:
        """Return the one service of subordinate ids: the files, if none, several or an unknown one is named.

        Source: subuid(5), DESCRIPTION.
        """
        services = self.services("subid")
        return services[0].name if len(services) == 1 and services[0].name in known else "files"


def parse_nsswitch(text: str, source: str = "nsswitch.conf") -> Nsswitch:
    """Read the text of nsswitch.conf; what cannot be read in a line is left out, with a diagnostic.

    Source: nsswitch.conf(5).

    >>> parse_nsswitch("group: files [SUCCESS=merge] systemd").services("group")[0].action("success")
    'merge'
    """
    databases = []
    diagnostics: list[Diagnostic] = []
    for number, line in enumerate(text.split("\n"), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        database, colon, rest = content.partition(":")
        database = database.strip()
        if not colon or not database or len(database.split()) != 1:
            diagnostics.append(Diagnostic(source, number, 1, "database", "no database and colon", database, False))
            continue
        rules, problems = _parse_services(rest)
        diagnostics += (Diagnostic(source, number, 1, "services", each, database, bool(rules)) for each in problems)
        if rules:
            databases.append((database, rules))
    return Nsswitch(tuple(databases), tuple(diagnostics))


def _parse_services(text: str) -> tuple[tuple[ServiceRule, ...], list[str]]:
    rules: list[ServiceRule] = []
    problems: list[str] = []
    while text := text.strip():
        if text.startswith("["):
            items, bracket, text = text[1:].partition("]")
            if not bracket:
                problems.append("a [ without ]")
            elif not rules:
                problems.append("actions before the first service")
            else:
                rules[-1] = _with_actions(rules[-1], items.split(), problems)
            continue
        end = min((at for at in (text.find(" "), text.find("\t"), text.find("[")) if at > 0), default=len(text))
        rules.append(ServiceRule(text[:end]))
        text = text[end:]
    return tuple(rules), problems


def _with_actions(rule: ServiceRule, items: list[str], problems: list[str]) -> ServiceRule:
    actions = list(rule.actions)
    for item in items:
        status, equals, action = item.lower().partition("=")
        negated = status.startswith("!")
        status = status.removeprefix("!")
        if not equals or status not in STATUSES or action not in ACTIONS:
            problems.append(f"{item!r} is no STATUS=action")
            continue
        for index, name in enumerate(STATUSES):
            if (name == status) != negated:
                actions[index] = action
    success, notfound, unavail, tryagain = actions
    return rule._replace(actions=(success, notfound, unavail, tryagain))
