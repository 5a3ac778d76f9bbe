"""`callboard tls cert create`."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import Failed, UsageError
from callboard.files import create as create_file
from callboard.pki import certificates, constraints, roles, verification
from callboard.pki.authority import Authority
from callboard.pki.certificates import Key
from callboard.pki.roles import LABEL, Address, Names
from callboard.tls import files

KINDS = {"server": roles.SERVER, "client": roles.AGENT, "cli": roles.OPERATOR}
"""Flags and the roles they give, as Consul names them; -service gives a program's."""


NUMBERS_MAX = 10_000
"""Of certificates of one kind in a directory."""

FLAGS = FlagSet(
    """Usage: callboard tls cert create [options]

  Create a new certificate

  $ callboard tls cert create -server
  ==> WARNING: Server Certificates grants authority to become a
      server and access all state in the cluster including root keys
      and all ACL tokens. Do not distribute them to production hosts
      that are not server nodes. Store them as securely as CA keys.
  ==> Using consul-agent-ca.pem and consul-agent-ca-key.pem
  ==> Saved dc1-server-consul-0.pem
  ==> Saved dc1-server-consul-0-key.pem
  $ callboard tls cert create -service hub -node hub-1
  ==> Using consul-agent-ca.pem and consul-agent-ca-key.pem
  ==> Saved dc1-hub-consul-0.pem
  ==> Saved dc1-hub-consul-0-key.pem""",
    [
        *files.CA_FLAGS,
        flags.repeated("additional-dnsname", "Another DNS name; localhost is always in."),
        flags.repeated("additional-ipaddress", "Another address; 127.0.0.1 and ::1 are always in."),
        flags.text("cert-out", "File for the certificate, instead of a numbered one."),
        flags.switch("cli", "Certificate of a person's tool: reads and writes by https."),
        flags.switch("client", "Certificate of an agent that is no server."),
        flags.number("days", "Days that the certificate is valid for.", 365),
        flags.text("dc", "Datacenter.", "dc1"),
        flags.text("key-out", "File for its key; goes with -cert-out."),
        flags.text("node", "Name of the node or machine."),
        flags.text("public-host", "Name or address that the outside reaches the program by."),
        flags.switch("server", "Certificate of a server of the catalog."),
        flags.text("service", "Certificate of a service: hub, fileserver, or one of your own."),
    ],
)

WARNING = """\
==> WARNING: Server Certificates grants authority to become a
    server and access all state in the cluster including root keys
    and all ACL tokens. Do not distribute them to production hosts
    that are not server nodes. Store them as securely as CA keys."""


def create(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Make a key and a certificate for it, verified before either is written."""
    return files.call(FLAGS, argv, _create)


def _create(parsed: Parsed) -> int:
    if parsed.args:
        raise UsageError(f"unexpected argument {parsed.args[0]!r}")
    kind, names = _kind_and_names(parsed)
    life = files.days(parsed)
    if bool(parsed.text("cert-out")) != bool(parsed.text("key-out")):
        raise UsageError("-cert-out and -key-out go together")
    if kind == "server":
        print(WARNING)
    authority = files.authority(parsed)
    print(f"==> Using {files.ca_place(parsed)} and {files.ca_key_place(parsed)}")
    names = _without_bare_node(names, parsed.text("node"), authority)
    places = _places(parsed, kind)
    key = certificates.new_key()
    with files.permitted(parsed.text("public-host")):
        made = authority.sign(
            key.public_key(),
            names,
            now=files.now(),
            life=life,
            common_name=_common_name(parsed, kind, names),
        )
    verification.rehearse([made], key, [authority.certificate])
    certificate_place, key_place = _save(places, certificates.pem(made), key)
    files.saved(certificate_place)
    files.saved(key_place)
    return 0


def additional_names(parsed: Parsed) -> tuple[list[str], list[Address]]:
    """What -additional-dnsname, -additional-ipaddress and -public-host add. Raises UsageError."""
    try:
        dns = [constraints.checked_name(one) for one in parsed.values("additional-dnsname")]
        addresses = [ipaddress.ip_address(one) for one in parsed.values("additional-ipaddress")]
        host = constraints.names_of_host(parsed.text("public-host"))
    except ValueError as problem:
        raise UsageError(str(problem)) from problem
    return [*dns, *host.dns], [*addresses, *host.addresses]


def _kind_and_names(parsed: Parsed) -> tuple[str, Names]:
    """What the file names say, and the names of the certificate. Raises UsageError."""
    service, node = parsed.text("service"), parsed.text("node")
    kinds = [kind for kind in KINDS if parsed.switch(kind)]
    if len(kinds) + bool(service) != 1:
        raise Failed("Please provide either -server, -client, -cli, or -service NAME")
    for flag in ("service", "node", "dc"):
        if parsed.text(flag) and not LABEL.fullmatch(parsed.text(flag)):
            raise UsageError(f"-{flag} is a word of a-z, 0-9 and -, not {parsed.text(flag)!r}")
    if service in (roles.SERVER, roles.OPERATOR):
        raise UsageError(f"-service {service}: that is what -server and -cli are for")
    dns, addresses = additional_names(parsed)
    role = KINDS[kinds[0]] if kinds else service
    make = roles.names_for if role in roles.ROLES else roles.names_of_service
    try:
        names = make(
            role,
            node,
            datacenter=parsed.text("dc"),
            domain=files.domain(parsed),
            dns=dns,
            addresses=addresses,
        )
    except ValueError as problem:
        raise Failed(str(problem)) from problem
    return (kinds[0] if kinds else service), names


def _without_bare_node(names: Names, node: str, authority: Authority) -> Names:
    """The node's name alone ("agent-1") is left out where the CA must not sign it."""
    if not node or not constraints.outside(Names(dns=(node,)), authority.constraints):
        return names
    return replace(names, dns=tuple(name for name in names.dns if name != node))


def _common_name(parsed: Parsed, kind: str, names: Names) -> str:
    domain = roles.trust_domain(parsed.text("dc"), files.domain(parsed))
    if kind in ("server", "client", "cli"):
        return f"{kind}.{domain}"
    return f"{kind}.service.{domain}"


def _places(parsed: Parsed, kind: str) -> list[tuple[Path, Path]]:
    """Where certificate and key may go: the first pair that is free. Raises Failed."""
    if parsed.text("cert-out"):
        pair = Path(parsed.text("cert-out")), Path(parsed.text("key-out"))
        for path in pair:
            if path.exists() or path.is_symlink():
                raise Failed(f"{path} already exists.")
        return [pair]
    prefix = f"{parsed.text('dc')}-{kind}-{files.domain(parsed)}"
    numbered = (
        (Path(f"{prefix}-{number}.pem"), Path(f"{prefix}-{number}-key.pem"))
        for number in range(NUMBERS_MAX)
    )
    free = (pair for pair in numbered if not any(path.exists() for path in pair))
    return list(itertools.islice(free, 100))


def _save(places: Sequence[tuple[Path, Path]], certificate: bytes, key: Key) -> tuple[Path, Path]:
    """Write a pair to the first place where neither is, also when others write at the same time."""
    for certificate_place, key_place in places:
        try:
            with create_file(key_place) as file:
                file.write(certificates.key_pem(key))
        except FileExistsError:
            continue
        try:
            with create_file(certificate_place, permissions=files.PUBLIC) as file:
                file.write(certificate)
        except OSError as problem:
            key_place.unlink()
            if not isinstance(problem, FileExistsError):
                raise
            continue
        return certificate_place, key_place
    raise Failed(f"{places[-1][0] if places else 'every number'} already exists.")
