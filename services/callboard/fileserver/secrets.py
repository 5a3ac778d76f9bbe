"""What is never served, whatever folder it lies in: private keys, and files that begin with a dot.

By name, and by content: a key under another name is a key still. Pure.
"""

from __future__ import annotations

import re

SUFFIXES = frozenset(b"pem key p12 pfx jks keystore truststore p8 pk8 ppk kdbx pkcs12 pvk".split())
"""Last parts of names that keys go by; certificates among them are nobody's web page."""
COPIES = frozenset(b"gz br zst bak old orig save swp swo tmp".split())
"""Suffixes behind which the one before counts: server.key.gz, server.key.bak."""
NAMES = re.compile(rb"id_(rsa|dsa|ecdsa|ed25519)(_sk)?", re.I)

PEM_KEY = re.compile(
    rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?:\s|\\r|\\n)*"
    rb"(?:[A-Za-z0-9+/=]{16}|Proc-Type:|Comment:)"
    rb"|-----BEGIN PGP PRIVATE KEY BLOCK-----(?:\s|\\r|\\n)*[A-Za-z0-9+/=]"
)
"""A PEM private key with a body, also as a JSON string; not the bare words in a program."""
PUTTY_KEY = b"PuTTY-User-Key-File-"
OVERLAP = 128
"""Bytes of a file's part to keep before the next, so that no key hides on the edge."""

_DER_KEY = re.compile(
    # SEQUENCE, length, then: version 0, 1 (PKCS #8 and #1, two-prime) followed by SEQUENCE or a
    # big INTEGER; version 1 followed by an OCTET STRING (SEC 1)
    rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)(?:\x02\x01[\x00\x01]\x30|\x02\x01\x00\x02[\x40-\x84]"
    rb"|\x02\x01\x01\x04[\x10-\x48])",
    re.S,
)


def is_hidden_name(name: bytes) -> bool:
    """Whether a file or folder of this name is left out."""
    if name[:1] == b"." or NAMES.match(name):
        return True
    parts = name.lower().rstrip(b"~").split(b".")[1:]
    while len(parts) > 1 and (parts[-1] in COPIES or parts[-1].isdigit()):
        parts.pop()
    return name[-1:] == b"~" or (bool(parts) and parts[-1] in SUFFIXES)


def has_key(part: bytes, *, first: bool) -> bool:
    """Whether a part of a file's content is, or has in it, a private key.

    `first` says that the part is the file's beginning, where DER is looked for.
    """
    if b"PRIVATE KEY" in part and PEM_KEY.search(part):
        return True
    return first and (part.startswith(PUTTY_KEY) or _DER_KEY.match(part) is not None)
