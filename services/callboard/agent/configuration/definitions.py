"""Services and checks out of configuration files: what an agent announces of its own.

Decoding and its texts are the catalog's (`catalog.definitions`); here each error gets its file's
name, and two files that define one ID are told apart.
"""

from __future__ import annotations

from callboard.agent.configuration.files import ConfigurationError, Merged
from callboard.catalog.decode import DecodeError
from callboard.catalog.definitions import (
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
        for service in found.services:
            if service.id in services:
                raise ConfigurationError(f"{source}: service {service.id!r} is defined twice")
            services[service.id] = service
        for check in found.checks:
            if check.id in checks:
                raise ConfigurationError(f"{source}: check {check.id!r} is defined twice")
            checks[check.id] = check
    return Definitions(tuple(services.values()), tuple(checks.values()))
