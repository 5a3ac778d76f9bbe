"""The sidecar's command line and environment."""

from __future__ import annotations

import pytest

from callboard.chassis.settings import SettingsError
from callboard.sidecar.settings import FLAGS, SidecarSettings, build


def _settings(*argv: str, **environ: str) -> SidecarSettings:
    return build(FLAGS.parse(argv), environ, host_name="box")


def test_without_options_it_answers_on_loopback() -> None:
    settings = _settings()
    assert (settings.bind, settings.port, settings.node) == ("127.0.0.1", 8090, "box")
    assert settings.catalog == () and settings.health is None and settings.streams is None


def test_the_environment_says_what_flags_do_not() -> None:
    settings = _settings(
        BIND="192.0.2.7", ALLOW_PLAIN="1", SOURCE="192.0.2.8", CALLBOARD_HTTP_TOKEN="secret"
    )
    assert (settings.bind, settings.source, settings.token) == ("192.0.2.7", "192.0.2.8", "secret")


def test_in_the_clear_it_stays_on_loopback() -> None:
    with pytest.raises(SettingsError, match=r"leases would listen in the clear on 0\.0\.0\.0"):
        _settings("-bind=0.0.0.0")
    assert _settings("-bind=0.0.0.0", "-allow-plain").bind == "0.0.0.0"


def test_with_an_identity_it_may_listen_anywhere_and_asks_agents_by_tls() -> None:
    settings = _settings("-bind=0.0.0.0", "-catalog=agent-1", IDENTITY="/identity")
    assert settings.identity.given
    assert settings.catalog == ("https://agent-1:8501",)


def test_mutual_tls_off_needs_allow_plain_again() -> None:
    with pytest.raises(SettingsError, match="in the clear"):
        _settings("-bind=0.0.0.0", IDENTITY="/identity", MUTUAL_TLS="off")


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ("-bind=localhost", "-bind is an IP address"),
        ("-port=65536", "is no port"),
        ("-health=9090", "-health is IP:PORT"),
        ("-catalog=,", "names no agent"),
        ("-mutual-tls=maybe", "-mutual-tls is on or off"),
        ("-log-level=loud", "Invalid log level"),
        ("streams.toml", "unexpected argument"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(argv: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        _settings(argv)
