"""What a program is told of its identity: by flags and the environment.

Apart from `identity`, so that a command line can be read without TLS being loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from callboard.chassis.flags import Flag, Parsed, text

ON = "on"
OFF = "off"


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Where a program's identity is. All empty: it has none, and speaks in the clear."""

    directory: Path | None = None
    exchange: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    revoked: Path | None = None
    mutual_tls: bool = True
    """False (`-mutual-tls=off`): between programs in the clear, whatever else is given."""

    @property
    def given(self) -> bool:
        """Whether there is an identity to be used."""
        return self.mutual_tls and (self.directory is not None or self.certificate is not None)


def identity_flags() -> list[Flag]:
    """The flags of every program with an identity."""
    return [
        text("identity", "Directory of this program's key, certificate and CA."),
        text("exchange", "Directory shared with the issuer, which keeps -identity filled."),
        text("cert-file", "Certificate, PEM, instead of -identity."),
        text("key-file", "Its private key."),
        text("ca-file", "CA certificates that other programs must come from."),
        text("crl-file", "Revocation lists of those CAs."),
        text("mutual-tls", "on, or off: programs speak to each other in the clear.", ON),
    ]


def identity_settings(parsed: Parsed, environ: Mapping[str, str]) -> IdentitySettings:
    """From flags and, where they are silent, IDENTITY, EXCHANGE and MUTUAL_TLS.

    Raises ValueError with a text for the user.
    """

    variables = {"identity": "IDENTITY", "exchange": "EXCHANGE", "mutual-tls": "MUTUAL_TLS"}

    def said(flag: str) -> str:
        given = parsed.given(flag) or flag not in variables
        return parsed.text(flag) if given else environ.get(variables[flag], "")

    return identity_of(said)


def identity_of(said: Callable[[str], str]) -> IdentitySettings:
    """From what is `said` for each of the flags' names, "" for nothing.

    Raises ValueError with a text for the user, also for what does not fit together.
    """
    mutual = said("mutual-tls").lower() or ON
    if mutual not in (ON, OFF):
        raise ValueError(f"-mutual-tls is {ON} or {OFF}, not {mutual!r}")
    settings = IdentitySettings(
        directory=_path(said("identity")),
        exchange=_path(said("exchange")),
        certificate=_path(said("cert-file")),
        key=_path(said("key-file")),
        authorities=_path(said("ca-file")),
        revoked=_path(said("crl-file")),
        mutual_tls=mutual == ON,
    )
    if settings.exchange is not None and settings.directory is None:
        raise ValueError("-exchange needs -identity: the key stays there")
    if settings.directory is not None and settings.certificate is not None:
        raise ValueError("-identity and -cert-file are two ways to say one thing: give one")
    if (settings.certificate is None) != (settings.key is None):
        raise ValueError("-cert-file and -key-file go together")
    if settings.certificate is not None and settings.authorities is None:
        raise ValueError("-cert-file needs -ca-file: without it no other program can be judged")
    return settings


def _path(value: str) -> Path | None:
    return Path(value).absolute() if value else None
