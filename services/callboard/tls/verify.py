"""`callboard tls verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import Failed, UsageError
from callboard.pki import reading, roles, verification
from callboard.pki.certificates import CLIENT_AUTH, SERVER_AUTH
from callboard.pki.verification import NotAccepted, moment
from callboard.tls import files
from callboard.tls.show import peer

FLAGS = FlagSet(
    """Usage: callboard tls verify [options] CERTIFICATE

  Say whether a certificate will be accepted by who trusts the CA, and if not, why; exit code 1
  then. With the key (-key, or the file beside it) a TLS handshake is rehearsed in memory.

  $ callboard tls verify -role server dc1-server-consul-0.pem
  dc1-server-consul-0.pem: good for clientAuth, serverAuth until 2027-11-26 00:45 UTC""",
    [
        flags.text("ca", "CA certificates to trust; #DOMAIN#-agent-ca.pem."),
        flags.switch("client", "It must be good for a client."),
        flags.text("crl", "Revocation list of the CA; #CA#-crl.pem if there is one."),
        flags.text("dc", "Datacenter.", "dc1"),
        flags.text("domain", "Domain of the cluster.", "consul"),
        flags.text("key", "Key of the certificate."),
        flags.text("name", "Name or address that it must stand for."),
        flags.text("role", "Role that it must give: server, agent, hub and so on."),
        flags.switch("server", "It must be good for a server."),
    ],
)


def verify(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Judge a certificate."""
    return files.call(FLAGS, argv, _verify)


def _verify(parsed: Parsed) -> int:
    if len(parsed.args) != 1:
        raise UsageError("Please name the certificate to verify, one")
    path = Path(parsed.args[0])
    chain = reading.read_certificates(path)
    authorities = reading.read_certificates(files.ca_place(parsed))
    place = Path(parsed.text("crl") or files.crl_beside(files.ca_place(parsed)))
    lists = reading.read_lists(place) if parsed.text("crl") or place.exists() else ()
    name = parsed.text("name")
    try:
        purposes = _purposes(parsed, chain[0])
        verification.verify(
            chain, authorities, files.now(), purposes=purposes, name=name, lists=lists
        )
        _check_role(parsed, chain[0])
        key_place = Path(parsed.text("key") or files.key_beside(path))
        if parsed.text("key") or key_place.exists():
            key = reading.read_key(key_place)
            verification.rehearse(chain, key, authorities, name=name, lists=lists)
    except NotAccepted as problem:
        raise Failed(f"{path}: {problem}") from problem
    known = ", ".join(sorted(verification.PURPOSES[purpose] for purpose in purposes))
    print(f"{path}: good for {known} until {moment(chain[0].not_valid_after_utc)}")
    return 0


def _purposes(parsed: Parsed, leaf: x509.Certificate) -> tuple[x509.ObjectIdentifier, ...]:
    """What is asked for; when nothing is, what the certificate says."""
    asked = [
        purpose
        for flag, purpose in (("server", SERVER_AUTH), ("client", CLIENT_AUTH))
        if parsed.switch(flag)
    ]
    if asked:
        return tuple(asked)
    usages = verification.usages_of(leaf)
    told = [one for one in (SERVER_AUTH, CLIENT_AUTH) if usages is None or one in usages]
    if not told:
        raise NotAccepted("made for neither serverAuth nor clientAuth")
    return tuple(told)


def _check_role(parsed: Parsed, leaf: x509.Certificate) -> None:
    role = parsed.text("role")
    if not role:
        return
    if role not in roles.ROLES:
        raise UsageError(f"no role {role!r}: {', '.join(sorted(roles.ROLES))}")
    trust = roles.trust_domain(parsed.text("dc"), files.domain(parsed))
    found = peer(leaf, trust).roles
    if role not in found:
        has = ", ".join(sorted(found)) or "no role"
        raise NotAccepted(f"it does not give the role {role} in {trust}; it has {has}")
