"""Certificates in the configuration: ours and Consul's keys, and what they come down to.

With a certificate both sides of every connection are verified, and servers by their name: that is
what Consul's verify_incoming, verify_outgoing and verify_server_hostname ask for together, so here
they may be true or absent. `mutual_tls` off is the one way out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from callboard.agent.configuration.files import ConfigurationError, Value
from callboard.agent.settings import OFF, AgentSettings, Ports
from callboard.chassis import identity_settings
from callboard.chassis.identity_settings import IdentitySettings
from callboard.chassis.listeners import default_port

VERIFYING = (
    *("verify_incoming", "verify_incoming_rpc", "verify_incoming_https", "verify_outgoing"),
    "verify_server_hostname",
)
"""Keys that ask for what mutual TLS always does."""

ALIASES = {
    **{f"tls.defaults.{key}": key for key in ("ca_file", "cert_file", "key_file")},
    **{f"tls.defaults.{key}": key for key in ("verify_incoming", "verify_outgoing")},
    "tls.internal_rpc.verify_server_hostname": "verify_server_hostname",
}
"""Consul's keys since 1.12, and the older ones that mean the same."""


def settle_aliases(given: dict[str, Value]) -> None:
    """Replace newer spellings by the older ones. Raises ConfigurationError if they differ."""
    for path, older in ALIASES.items():
        if path in given:
            value = given.pop(path)
            if given.setdefault(older, value) != value:
                raise ConfigurationError(f"{path} and {older} say different things")


def identity_of(given: Mapping[str, Value]) -> IdentitySettings:
    """Where key and certificate are. Raises ConfigurationError for what does not fit together."""
    try:
        identity = identity_settings.identity_of(
            lambda flag: str(given.get(flag.replace("-", "_"), ""))
        )
    except ValueError as problem:
        raise ConfigurationError(str(problem)) from None
    _check_verifying(given, identity)
    return identity


def _check_verifying(given: Mapping[str, Value], identity: IdentitySettings) -> None:
    asked = [key for key in VERIFYING if given.get(key)]
    if asked and not identity.mutual_tls:
        raise ConfigurationError(f"{asked[0]} is true and mutual_tls off: say one of the two")
    if asked and not identity.given:
        what = "VerifyIncoming" if "incoming" in asked[0] else "VerifyOutgoing"
        missing = "Cert/Key pair" if identity.authorities else "CA certificate"
        raise ConfigurationError(f"{what} set, and no {missing} provided!")
    if identity.mutual_tls and identity.authorities and not identity.given:
        raise ConfigurationError(
            "ca_file needs cert_file and key_file: agents prove themselves to each other"
        )


def https_of(given: Mapping[str, Value], settings: AgentSettings) -> Ports:
    """https is open where there is an identity, and nowhere else. Raises ConfigurationError."""
    ports = settings.ports
    asked = int(str(given.get("ports.https", 0)))
    if settings.identity.given:
        return replace(ports, https=default_port("agent", "https")) if asked == 0 else ports
    if asked > 0 and settings.identity.mutual_tls:
        raise ConfigurationError(
            "ports.https needs a certificate: say identity, or cert_file, key_file and ca_file"
        )
    return replace(ports, https=OFF)


def remarks(given: Mapping[str, Value], settings: AgentSettings) -> Iterator[str]:
    """What the log should say of keys that mean less than they seem to."""
    if not settings.identity.given:
        return
    for key in VERIFYING:
        if given.get(key) is False:
            yield (
                f"{key} is false, and both sides are verified all the same: "
                "mutual_tls off is what turns it off"
            )
