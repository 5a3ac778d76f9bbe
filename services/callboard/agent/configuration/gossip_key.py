"""The first key of gossip, as the issuer hands it to every agent of a stack.

`encrypt` wins, and so does a keyring that was kept: the issuer's key may be an old one by then.
Without them an agent with an exchange takes `gossip.key` from there, and keeps it in its identity
directory for starts without an issuer.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from callboard.agent.configuration.assemble import gossip_key
from callboard.agent.configuration.files import ConfigurationError
from callboard.agent.settings import AgentSettings, keyring_path
from callboard.files import replace as replace_file

NAME = "gossip.key"


def with_gossip_key(settings: AgentSettings) -> AgentSettings:
    """The settings with gossip's key, where one is to be had. Raises ConfigurationError, OSError.

    An agent that has an exchange never gossips in the clear: without a key it does not start.
    """
    identity = settings.identity
    if settings.encrypt_key or not identity.given or identity.exchange is None:
        return settings
    if settings.data_dir is not None and keyring_path(settings.data_dir).exists():
        return settings
    assert identity.directory is not None, "an exchange has an identity directory"
    kept = identity.directory / NAME
    text = _read(kept) or _read(identity.exchange / NAME)
    if not text:
        raise ConfigurationError(f"{identity.exchange / NAME}: the issuer gave no key for gossip")
    if not kept.exists():
        with replace_file(kept, "w", permissions=0o600) as file:
            file.write(text + "\n")
    return replace(settings, encrypt_key=gossip_key(text))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        return ""
    except ValueError as problem:
        raise ConfigurationError(f"{path}: no key for gossip: {problem}") from problem
