"""Gossip's first key out of the exchange."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from callboard.agent.configuration import ConfigurationError
from callboard.agent.configuration.gossip_key import with_gossip_key
from callboard.agent.membership.keyring_file import write_keyring
from callboard.agent.settings import AgentSettings, keyring_path
from callboard.chassis.identity_settings import IdentitySettings

KEY = b"k" * 32


@pytest.fixture
def settings(tmp_path: Path) -> AgentSettings:
    for name in ("identity", "exchange"):
        (tmp_path / name).mkdir()
    identity = IdentitySettings(tmp_path / "identity", tmp_path / "exchange")
    return AgentSettings(node_name="a", identity=identity)


def give(settings: AgentSettings, body: bytes) -> None:
    assert settings.identity.exchange is not None
    (settings.identity.exchange / "gossip.key").write_bytes(body)


def test_the_issuers_key_is_taken_and_kept_for_starts_without_an_issuer(
    settings: AgentSettings, tmp_path: Path
) -> None:
    give(settings, base64.b64encode(KEY) + b"\n")
    assert with_gossip_key(settings).encrypt_key == KEY
    (tmp_path / "exchange" / "gossip.key").unlink()
    assert with_gossip_key(settings).encrypt_key == KEY
    kept = tmp_path / "identity" / "gossip.key"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_encrypt_wins(settings: AgentSettings) -> None:
    give(settings, base64.b64encode(KEY))
    assert with_gossip_key(replace(settings, encrypt_key=b"x" * 16)).encrypt_key == b"x" * 16


def test_kept_keyring_wins_over_the_issuers_key_which_is_not_even_needed(
    settings: AgentSettings, tmp_path: Path
) -> None:
    settings = replace(settings, data_dir=tmp_path)
    keyring_path(tmp_path).parent.mkdir()
    write_keyring(keyring_path(tmp_path), [b"n" * 32])
    assert with_gossip_key(settings) == settings
    give(settings, base64.b64encode(KEY))
    assert with_gossip_key(settings) == settings


def test_without_an_exchange_or_with_mutual_tls_off_gossip_is_as_it_was(
    settings: AgentSettings,
) -> None:
    give(settings, base64.b64encode(KEY))
    assert with_gossip_key(AgentSettings(node_name="a")).encrypt_key == b""
    off = replace(settings.identity, mutual_tls=False)
    assert with_gossip_key(replace(settings, identity=off)).encrypt_key == b""


@pytest.mark.parametrize("body", [b"", b"garbage!", b"c2hvcnQ=", b"\xff\xfe"])
def test_what_is_no_key_is_refused_in_words(settings: AgentSettings, body: bytes) -> None:
    give(settings, body)
    with pytest.raises(ConfigurationError, match="key"):
        with_gossip_key(settings)
