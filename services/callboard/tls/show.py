"""`callboard tls show`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import UsageError
from callboard.pki import certificates, constraints, reading, roles, verification
from callboard.pki.roles import Names, Peer
from callboard.pki.verification import common_name, moment
from callboard.tls import files

FLAGS = FlagSet(
    """Usage: callboard tls show FILE...

  Show what is in PEM files: certificates, requests, revocation lists; of a key only whether it is
  that of the certificate beside it.

  $ callboard tls show dc1-server-consul-0.pem""",
    [],
)

Rows = Iterator[tuple[str, str]]


def show(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Show PEM files."""
    return files.call(FLAGS, argv, _show)


def trust_domain_of(names: Names) -> str:
    """The host part of the first SPIFFE-ID: "dc1.consul"; "" without one."""
    ids = [uri for uri in names.uris if uri.startswith("spiffe://")]
    return ids[0].removeprefix("spiffe://").partition("/")[0] if ids else ""


def peer(certificate: x509.Certificate, trust: str) -> Peer:
    """The roles of a certificate, read from its names as a connection reads them."""
    names = verification.names_of(certificate)
    pairs = [("URI", uri) for uri in names.uris] + [("DNS", name) for name in names.dns]
    return roles.peer_of({"subjectAltName": tuple(pairs)}, trust)


def _show(parsed: Parsed) -> int:
    if not parsed.args:
        raise UsageError("Please name the file to show")
    now = files.now()
    for path in map(Path, parsed.args):
        body = reading.read_bytes(path)
        print(path)
        for title, value in _rows(path, body, now):
            print(f"  {title:<12} {value}")
    return 0


def _rows(path: Path, body: bytes, now: datetime) -> Rows:
    where = str(path)
    if b"PRIVATE KEY-----" in body:
        yield from _key(path, body)
    elif b"CERTIFICATE REQUEST-----" in body:
        asked = reading.request_of(body, where)
        yield "request of", common_name(asked.subject)
        yield from _names(verification.names_of(asked))
        yield "signed", "with its own key" if asked.is_signature_valid else "WRONGLY"
    elif reading.BEGIN_LIST in body:
        for one in reading.lists_of(body, where):
            yield from _list(one, now)
    else:
        for each in reading.certificates_of(body, where):
            yield from _certificate(each, now)


def _key(path: Path, body: bytes) -> Rows:
    key = reading.key_of(body, str(path))
    yield "key", "private, P-256"
    certificate = path.with_name(path.name.replace("-key.pem", ".pem"))
    if certificate != path and certificate.exists():
        held = reading.read_certificate(certificate)
        fits = held.public_key() == key.public_key()
        yield "pair", f"that of {certificate}" if fits else f"NOT that of {certificate}"


def _certificate(one: x509.Certificate, now: datetime) -> Rows:
    authority = verification.is_authority(one)
    yield "CA" if authority else "certificate", common_name(one.subject)
    yield "issued by", common_name(one.issuer)
    if authority:
        permitted = constraints.constraints_of(one)
        signs = "every name"
        if permitted is not None:
            signs = ", ".join([*permitted.dns, *map(str, permitted.networks)])
        yield "signs for", signs
    else:
        names = verification.names_of(one)
        yield from _names(names)
        who = peer(one, trust_domain_of(names) or roles.trust_domain())
        node = f" on {who.node}" if who.node else ""
        yield "roles", (", ".join(sorted(who.roles)) or "none") + node
        usages = verification.usages_of(one)
        known = verification.PURPOSES
        yield (
            "purposes",
            "all"
            if usages is None
            else ", ".join(sorted(known.get(usage, usage.dotted_string) for usage in usages)),
        )
    yield "valid", f"{_span(one.not_valid_before_utc, one.not_valid_after_utc, now)}"
    yield "serial", f"{one.serial_number:x}"
    yield "SHA-256", certificates.fingerprint(one)


def _names(names: Names) -> Rows:
    yield "names", ", ".join([*names.dns, *map(str, names.addresses)]) or "none"
    for uri in names.uris:
        yield "", uri


def _list(one: x509.CertificateRevocationList, now: datetime) -> Rows:
    yield "list of", common_name(one.issuer)
    until = one.next_update_utc
    yield (
        "valid",
        f"from {moment(one.last_update_utc)}"
        if until is None
        else _span(one.last_update_utc, until, now),
    )
    try:
        number = one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        yield "number", str(number)
    except x509.ExtensionNotFound:
        pass
    for line in one:
        yield "revoked", f"{line.serial_number:x} on {moment(line.revocation_date_utc)}"


def _span(since: datetime, until: datetime, now: datetime) -> str:
    left = (until - now).total_seconds() / 86400
    if left < 0:
        return f"{moment(since)} to {moment(until)}: EXPIRED"
    return f"{moment(since)} to {moment(until)}: {left:.0f} days left"
