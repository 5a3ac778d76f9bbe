"""Services and checks out of configuration files: what an agent announces of its own.

Decoding and its texts are the catalog's (`catalog.definitions`); here each error gets its file's
name, two files that define one ID are told apart, and what this agent cannot serve (a check that
it would never run) stops the start, as it is refused by HTTP.
"""

from __future__ import annotations

from callboard.agent.configuration.files import ConfigurationError, Merged
from callboard.catalog.decode import DecodeError
from callboard.catalog.definitions import (
    SCRIPTS_DISABLED,
    CheckDefinition,
    DefinitionError,
    Definitions,
    ServiceDefinition,
    definitions_from_config,
)


def definitions_of(merged: Merged) -> Definitions:
    """All definitions, in the files' order. Raises ConfigurationError naming the file."""
    services: dict[str, ServiceDefinition] = {}
    checks: dict[str, CheckDefinition] = {}
    for source, document in merged.definitions:
        try:
            found = definitions_from_config(document)
        except (DecodeError, DefinitionError) as problem:
            raise ConfigurationError(f"{source}: {problem}") from problem
        _refuse_unsupported(source, (*found.services, *found.checks))
        for service in found.services:
            if service.id in services:
                raise ConfigurationError(f"{source}: service {service.id!r} is defined twice")
            services[service.id] = service
        for check in found.checks:
            if check.id in checks:
                raise ConfigurationError(f"{source}: check {check.id!r} is defined twice")
            checks[check.id] = check
    return Definitions(tuple(services.values()), tuple(checks.values()))


def _refuse_unsupported(
    source: str, definitions: tuple[ServiceDefinition | CheckDefinition, ...]
) -> None:
    for each in definitions:
        refused = each.unsupported()
        if refused == SCRIPTS_DISABLED:
            refused = "Scripts are disabled on this agent: it runs none"
        if refused is not None:
            raise ConfigurationError(f"{source}: {each.name!r}: {refused}")
