"""Whether a certificate will be accepted, asked before anybody meets it; one clear line if not.

`verify` judges at a given time: first by itself, so that the usual faults get words of their own,
then by the path validation of `cryptography` (RFC 5280), which has the last word. `rehearse` is the
whole thing, on the wall clock: a TLS handshake in memory, both sides strict, by OpenSSL.
"""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from callboard.pki import certificates, constraints
from callboard.pki.certificates import CLIENT_AUTH, SERVER_AUTH, Key
from callboard.pki.contexts import Material, client_context, server_context
from callboard.pki.roles import Names

PURPOSES = {SERVER_AUTH: "serverAuth", CLIENT_AUTH: "clientAuth"}
"""Extended key usages and their names."""

HANDSHAKE_TURNS = 10
"""A handshake in memory takes three."""


class NotAccepted(ValueError):
    """A certificate would be refused; one line that says why."""


def names_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> Names:
    """The subject alternative names of a leaf or a request."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names()
    addresses = found.get_values_for_type(x509.IPAddress)
    return Names(
        tuple(found.get_values_for_type(x509.DNSName)),
        tuple(a for a in addresses if isinstance(a, ipaddress.IPv4Address | ipaddress.IPv6Address)),
        tuple(found.get_values_for_type(x509.UniformResourceIdentifier)),
    )


def common_name(name: x509.Name) -> str:
    """The common name of a subject or issuer; the whole of it when it has none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string() or "(no name)"


def usages_of(leaf: x509.Certificate) -> frozenset[x509.ObjectIdentifier] | None:
    """The extended key usages of a leaf; None when it has none: then it is good for all."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return None
    return frozenset(found.value)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate is one of a CA."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` is named as issuer and made the signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # wrong name, signature or kind of key: all say no
        return False
    return True


def check_pair(certificate: x509.Certificate, key: Key) -> None:
    """Whether a key is the certificate's own. Raises NotAccepted."""
    if certificate.public_key() != key.public_key():
        raise NotAccepted(
            f"the private key is not that of the certificate {common_name(certificate.subject)}"
        )


def verify(
    chain: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    now: datetime,
    *,
    purposes: Iterable[x509.ObjectIdentifier] = (SERVER_AUTH, CLIENT_AUTH),
    name: str = "",
    lists: Sequence[x509.CertificateRevocationList] = (),
) -> None:
    """Judge a chain (leaf first) as one who trusts `authorities` would at `now`.

    `name`: DNS name or address that the leaf must stand for. `lists`: revocation lists; given any,
    there must be one in date of the leaf's own issuer. Raises NotAccepted.
    """
    leaf = chain[0]
    if is_authority(leaf):
        raise NotAccepted(f"{common_name(leaf.subject)} is a CA's certificate, not a leaf")
    check_dates(leaf, now, common_name(leaf.subject))
    issuer = _issuer(leaf, [*chain[1:], *authorities])
    check_dates(issuer, now, f"the CA {common_name(issuer.subject)}")
    _check_names(leaf, issuer, name)
    _check_revocation(leaf, issuer, lists, now)
    for purpose in purposes:
        _check_purpose(leaf, purpose)
        _check_path(chain, authorities, now, purpose, name)


def check_dates(certificate: x509.Certificate, now: datetime, what: str) -> None:
    """Whether a certificate is in date. Raises NotAccepted that begins with `what`."""
    if now < certificate.not_valid_before_utc:
        raise NotAccepted(f"{what} is not valid before {moment(certificate.not_valid_before_utc)}")
    if now > certificate.not_valid_after_utc:
        raise NotAccepted(f"{what} expired on {moment(certificate.not_valid_after_utc)}")


def check_revocation_list(
    found: x509.CertificateRevocationList, issuer: x509.Certificate, now: datetime
) -> None:
    """Whether a revocation list is this CA's and in date. Raises NotAccepted."""
    what = f"the revocation list of {common_name(issuer.subject)}"
    key = issuer.public_key()
    try:
        good = found.is_signature_valid(key)  # type: ignore[arg-type]  # other kinds: TypeError
    except Exception:
        good = False
    if not good:
        raise NotAccepted(f"{what} is not signed by that CA")
    if now < found.last_update_utc:
        raise NotAccepted(f"{what} is not valid before {moment(found.last_update_utc)}")
    until = found.next_update_utc
    if until is not None and now > until:
        raise NotAccepted(f"{what} expired on {moment(until)}")


def rehearse(
    chain: Sequence[x509.Certificate],
    key: Key,
    authorities: Sequence[x509.Certificate],
    *,
    name: str = "",
    lists: Sequence[x509.CertificateRevocationList] = (),
) -> None:
    """A TLS handshake in memory in which the leaf proves itself: OpenSSL's judgement, now.

    As server, when it may be one, for `name` (else its first DNS name or address), and as client,
    when it may be one. Raises NotAccepted.
    """
    check_pair(chain[0], key)
    usages = usages_of(chain[0])
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        tested = Material(
            _put(directory / "chain.pem", b"".join(map(certificates.pem, chain))),
            _put(directory / "leaf.key", certificates.key_pem(key)),
            _put(directory / "ca.pem", b"".join(map(certificates.pem, authorities))),
            _put(directory / "crl.pem", b"".join(map(certificates.pem, lists))) if lists else None,
        )
        other = _stand_in(directory)
        try:
            if usages is None or SERVER_AUTH in usages:
                _handshake(tested, None, tested, name or _any_name(chain[0]))
            if usages is None or CLIENT_AUTH in usages:
                _handshake(other, tested, other, "localhost")
        except ssl.SSLCertVerificationError as problem:
            raise NotAccepted(f"OpenSSL refuses it: {problem.verify_message}") from problem
        except (OSError, ValueError) as problem:
            raise NotAccepted(f"OpenSSL refuses it: {problem}") from problem


def _issuer(leaf: x509.Certificate, candidates: Sequence[x509.Certificate]) -> x509.Certificate:
    named = [one for one in candidates if one.subject == leaf.issuer]
    who = common_name(leaf.subject)
    if not named:
        raise NotAccepted(
            f"{who} comes from {common_name(leaf.issuer)}, which is not among the CAs"
        )
    signed = [one for one in named if issued_by(leaf, one)]
    if not signed:
        raise NotAccepted(
            f"{who} is not signed by this {common_name(leaf.issuer)}: "
            "the CA has the same name, but another key"
        )
    return max(signed, key=lambda one: one.not_valid_after_utc)


def _check_names(leaf: x509.Certificate, issuer: x509.Certificate, name: str) -> None:
    names = names_of(leaf)
    who = common_name(leaf.subject)
    if names == Names():
        raise NotAccepted(f"{who} has no subject alternative names")
    try:
        wrong = constraints.outside(names, constraints.constraints_of(issuer))
    except ValueError as problem:
        raise NotAccepted(str(problem)) from problem
    if wrong:
        raise NotAccepted(
            f"{', '.join(wrong)}: outside the name constraints of {common_name(issuer.subject)}"
        )
    if name and not _stands_for(names, name):
        known = ", ".join([*names.dns, *map(str, names.addresses)])
        raise NotAccepted(f"{who} is not for {name}, but for {known}")


def _stands_for(names: Names, name: str) -> bool:
    network = constraints.network_of(name)
    if network is not None:
        return network.num_addresses == 1 and network.network_address in names.addresses
    wanted = name.rstrip(".").lower()
    above = wanted.partition(".")[2]
    known = {one.lower() for one in names.dns}
    return wanted in known or (bool(above) and f"*.{above}" in known)


def _check_purpose(leaf: x509.Certificate, purpose: x509.ObjectIdentifier) -> None:
    usages = usages_of(leaf)
    if usages is not None and purpose not in usages:
        wanted = PURPOSES.get(purpose, purpose.dotted_string)
        raise NotAccepted(f"{common_name(leaf.subject)} is not made for {wanted}")


def _check_revocation(
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    lists: Sequence[x509.CertificateRevocationList],
    now: datetime,
) -> None:
    if not lists:
        return
    own = [one for one in lists if one.issuer == issuer.subject]
    if not own:
        raise NotAccepted(f"there is no revocation list of {common_name(issuer.subject)}")
    newest = max(own, key=lambda one: one.last_update_utc)
    check_revocation_list(newest, issuer, now)
    line = newest.get_revoked_certificate_by_serial_number(leaf.serial_number)
    if line is not None:
        since = moment(line.revocation_date_utc)
        raise NotAccepted(f"{common_name(leaf.subject)} was revoked on {since}")


def _check_path(
    chain: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    now: datetime,
    purpose: x509.ObjectIdentifier,
    name: str,
) -> None:
    """The library's judgement."""
    between = [one for one in chain[1:] if is_authority(one)]
    policy = PolicyBuilder().store(Store(list(authorities))).time(now)
    try:
        if purpose == CLIENT_AUTH:
            policy.build_client_verifier().verify(chain[0], between)
        else:
            subject = _subject(name or _any_name(chain[0]))
            policy.build_server_verifier(subject).verify(chain[0], between)
    except (VerificationError, ValueError) as problem:
        text = str(problem).removeprefix("validation failed: ")
        raise NotAccepted(f"{common_name(chain[0].subject)} is not accepted: {text}") from problem


def _subject(name: str) -> x509.DNSName | x509.IPAddress:
    network = constraints.network_of(name)
    if network is not None:
        return x509.IPAddress(network.network_address)
    return x509.DNSName(name.rstrip(".").lower())


def _any_name(leaf: x509.Certificate) -> str:
    """A name that the leaf is for; RFC 6125 wants something in the place of a wildcard."""
    names = names_of(leaf)
    if names.dns:
        return names.dns[0].replace("*", "any", 1)
    return str(names.addresses[0]) if names.addresses else "localhost"


def _stand_in(directory: Path) -> Material:
    """The other side of a handshake whose client is tested: trusts nobody but whom it is told."""
    now = datetime.now(UTC)
    ca_key, key = certificates.new_key(), certificates.new_key()
    ca = certificates.authority(ca_key, "the other side", now)
    leaf = certificates.leaf(
        key.public_key(), Names(dns=("localhost",)), ca, ca_key, now, common_name="localhost"
    )
    return Material(
        _put(directory / "other.pem", certificates.pem(leaf)),
        _put(directory / "other.key", certificates.key_pem(key)),
        _put(directory / "other-ca.pem", certificates.pem(ca)),
    )


def _handshake(server: Material, client: Material | None, trusted: Material, name: str) -> None:
    """Both ends of a connection in memory. Raises ssl.SSLError, ValueError or OSError."""
    asked = ssl.CERT_NONE if client is None else ssl.CERT_REQUIRED
    judged_by = server if client is None else _of_both(server, client)
    listener = server_context(judged_by, client=asked)
    caller = client_context(trusted)
    if client is not None:
        caller.load_cert_chain(client.certificate, client.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        caller.wrap_bio(to_client, to_server, server_hostname=name),
        listener.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(HANDSHAKE_TURNS):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not ends:
            return
    raise ValueError("the handshake does not end")


def _of_both(server: Material, client: Material) -> Material:
    """The server's own certificate; clients judged by the CA and list of the client's."""
    return Material(server.certificate, server.key, client.authorities, client.revoked)


def _put(path: Path, body: bytes) -> Path:
    path.write_bytes(body)  # in a directory of mode 0700, for the length of a handshake
    return path


def moment(when: datetime) -> str:
    """A time as the texts here write it."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
