"""Makes a CA and certificates of your own, and has them trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callboard.chassis.verbs import dispatch
from callboard.tls import ca, cert, renewal, revocation, show, trust, verify

USAGE = """\
Usage: callboard tls <subcommand> [options]

  A CA of one's own, and certificates from it.

  Create a CA

    $ callboard tls ca create

  Create a server certificate

    $ callboard tls cert create -server

  Create a client certificate

    $ callboard tls cert create -client

Subcommands:
    ca create      Create a CA
    cert create    Create a key and a certificate
    renew          Replace a certificate by a newer one for the same key
    revoke         Take a certificate back
    crl            Write the CA's revocation list
    show           Show what is in PEM files
    verify         Say whether a certificate will be accepted, and why not
    trust          Have this machine's programs and browsers trust the CA"""

CA_USAGE = """\
Usage: callboard tls ca <subcommand> [options]

Subcommands:
    create    Create a CA"""

CERT_USAGE = """\
Usage: callboard tls cert <subcommand> [options]

Subcommands:
    create    Create a key and a certificate"""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard tls`."""
    return dispatch(USAGE, VERBS, argv, environ)


def _ca(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return dispatch(CA_USAGE, {"create": ca.create}, argv, environ)


def _cert(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return dispatch(CERT_USAGE, {"create": cert.create}, argv, environ)


VERBS = {
    "ca": _ca,
    "cert": _cert,
    "renew": renewal.renew,
    "revoke": revocation.revoke,
    "crl": revocation.crl,
    "show": show.show,
    "verify": verify.verify,
    "trust": trust.trust,
}
