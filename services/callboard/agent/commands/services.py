"""Registers and deregisters services with an agent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from callboard.agent.commands.api import (
    Agent,
    Failed,
    UsageError,
    call_agent,
    dispatch,
    failing,
    flag_set,
)
from callboard.agent.configuration.files import ConfigurationError, load
from callboard.chassis import flags
from callboard.chassis.flags import FlagError, Parsed

USAGE = """Usage: callboard services <subcommand> [options] [args]

  Registers and deregisters services with the agent.

      callboard services register web.json
      callboard services register -name=web -port=80
      callboard services deregister -id=web"""

REGISTER = flag_set(
    "Usage: callboard services register [options] [FILE...]\n\n"
    "  Registers services with the agent, from files or by flags.",
    flags.text("id", "ID of the service; its name"),
    flags.text("name", "name of the service"),
    flags.text("address", "address of the service; the node's"),
    flags.number("port", "port of the service"),
    flags.repeated("tag", "a tag; may be repeated"),
    flags.repeated("meta", "key=value; may be repeated"),
    flags.text("kind", "kind of the service"),
    server=False,
)

DEREGISTER = flag_set(
    "Usage: callboard services deregister [options] [FILE...]\n\n"
    "  Deregisters services from the agent, by -id or as files name them.",
    flags.text("id", "ID of the service"),
    server=False,
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard services`."""
    verbs = {"register": _run_register, "deregister": _run_deregister}
    return dispatch(USAGE, verbs, argv, environ)


def _run_register(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return call_agent(REGISTER, argv, environ, _register)


def _run_deregister(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return call_agent(DEREGISTER, argv, environ, _deregister)


def _register(parsed: Parsed, agent: Agent) -> int:
    if not parsed.args and not parsed.text("name"):
        raise UsageError("Service registration requires at least one argument or flags.")
    if parsed.args and parsed.text("name"):
        raise UsageError("Service registration requires arguments or -id, not both.")
    services = _from_files(parsed.args) if parsed.args else [_from_flags(parsed)]
    for service in services:
        name = str(service.get("name") or service.get("Name") or "")
        with failing(f'Error registering service "{name}"'):
            agent.write("PUT", "agent/service/register", body=json.dumps(service).encode())
        print(f"Registered service: {name}")
    return 0


def _deregister(parsed: Parsed, agent: Agent) -> int:
    if not parsed.args and not parsed.text("id"):
        raise UsageError("Service deregistration requires at least one argument or -id.")
    if parsed.args and parsed.text("id"):
        raise UsageError("Service deregistration requires arguments or -id, not both.")
    services = _from_files(parsed.args) if parsed.args else [{"id": parsed.text("id")}]
    for service in services:
        fields = {key.lower(): value for key, value in service.items()}
        identity = str(fields.get("id") or fields.get("name") or "")
        if not identity:
            raise Failed("Error deregistering service: missing service ID")
        with failing(f'Error deregistering service "{identity}"'):
            agent.write("PUT", f"agent/service/deregister/{identity}")
        print(f"Deregistered service: {identity}")
    return 0


def _from_flags(parsed: Parsed) -> dict[str, object]:
    service: dict[str, object] = {"name": parsed.text("name")}
    if parsed.text("id"):
        service["id"] = parsed.text("id")
    if parsed.text("address"):
        service["address"] = parsed.text("address")
    if parsed.number("port"):
        service["port"] = parsed.number("port")
    if parsed.values("tag"):
        service["tags"] = list(parsed.values("tag"))
    if parsed.values("meta"):
        service["meta"] = dict(_pair(word) for word in parsed.values("meta"))
    if parsed.text("kind"):
        service["kind"] = parsed.text("kind")
    return service


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise FlagError(f'invalid value "{word}" for flag -meta: missing "=" value in argument')
    return key, value


def _from_files(paths: Sequence[str]) -> list[dict[str, object]]:
    """The definitions in configuration files, as they are: the agent checks them."""
    services: list[dict[str, object]] = []
    for path in paths:
        try:
            document = load(Path(path))
        except ConfigurationError as problem:
            raise Failed(f"Error: {problem}") from problem
        several = document.get("services")
        found = [document.get("service"), *(several if isinstance(several, list) else [])]
        services += [service for service in found if isinstance(service, dict)]
    if not services:
        raise Failed("Error: the files define no service")
    return services
