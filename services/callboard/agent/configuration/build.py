"""The whole way from a command line to settings and definitions.

`build` at the start, `reread` at a reload (the same flags and environment, the files as they are
now), `load_definitions` for the services and checks alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from callboard.agent.configuration.addresses import Resolve, resolve_name
from callboard.agent.configuration.assemble import Origin, assemble
from callboard.agent.configuration.definitions import definitions_of
from callboard.agent.configuration.files import put, read
from callboard.agent.configuration.flags import (
    AGENT_FLAGS,
    ENVIRONMENT,
    from_environment,
    from_flags,
    sources,
)
from callboard.agent.configuration.security import remarks
from callboard.agent.settings import AgentSettings, keyring_path
from callboard.catalog.definitions import Definitions
from callboard.chassis.flags import FlagError
from callboard.chassis.listeners import is_loopback


@dataclass(frozen=True, slots=True)
class Built:
    """What a start or reload works with."""

    settings: AgentSettings
    definitions: Definitions
    """Services and checks of the files."""
    notices: tuple[str, ...] = ()
    """For the log: what was accepted and has no effect yet."""


def build(
    argv: Sequence[str], environ: Mapping[str, str], *, resolve: Resolve = resolve_name
) -> Built:
    """Read flags, files and environment. Raises ConfigurationError, FlagError, HelpRequested."""
    parsed = AGENT_FLAGS.parse(argv)
    if parsed.args:
        raise FlagError(f"Unexpected extra arguments: {list(parsed.args)}")
    merged = read(sources(parsed))
    surroundings = from_environment(environ)
    for path, value in surroundings.items():
        put(merged.values, path, value)
    if "bind_addr" in surroundings:
        merged.values.setdefault("client_addr", surroundings["bind_addr"])
    flags, idle = from_flags(parsed)
    for path, value in flags.items():
        put(merged.values, path, value)
    origin = Origin(
        files=tuple(path.absolute() for path in merged.files),
        directories=tuple(path.absolute() for path in merged.directories),
        command_line=tuple(argv),
        environment={name: environ[name] for name in ENVIRONMENT if name in environ},
    )
    settings = assemble(merged.values, dev=parsed.switch("dev"), origin=origin, resolve=resolve)
    notices = [f"{source}: {path} has no effect yet" for source, path in (*merged.idle, *idle)]
    notices += [*remarks(merged.values, settings), *_warnings(settings)]
    return Built(settings, definitions_of(merged), tuple(dict.fromkeys(notices)))


def reread(settings: AgentSettings, *, resolve: Resolve = resolve_name) -> Built:
    """Build anew from the same flags and environment: what a reload looks at.

    The caller applies what may change while running (definitions, node_meta, log_level, dns, http)
    and tells what needs a restart. Raises ConfigurationError; the agent then goes on as it was.
    """
    return build(settings.command_line, settings.environment, resolve=resolve)


def load_definitions(settings: AgentSettings) -> Definitions:
    """Services and checks as the configuration files define them now.

    Raises ConfigurationError naming file and key.
    """
    return definitions_of(read((*settings.config_files, *settings.config_dirs)))


def check_files(paths: Sequence[Path]) -> None:
    """Read files as a start would, without starting (`callboard validate`). Names are not resolved,
    and data_dir may come by flag. Raises ConfigurationError."""
    merged = read(paths)
    definitions_of(merged)
    merged.values.setdefault("data_dir", ".")
    assemble(merged.values, dev=False, origin=Origin(), resolve=lambda name: "127.0.0.1")


def _warnings(settings: AgentSettings) -> list[str]:
    """What is allowed, and yet should be known."""
    if is_loopback(settings.bind_address):
        return []
    warnings = []
    if not settings.identity.given:
        warnings.append(f"RPC is in the clear on {settings.bind_address}: see -identity")
    from_issuer = settings.identity.given and settings.identity.exchange is not None
    kept = settings.data_dir is not None and keyring_path(settings.data_dir).exists()
    if not settings.encrypt_key and not from_issuer and not kept:
        warnings.append(f"gossip is in the clear on {settings.bind_address}: see -encrypt")
    return warnings
