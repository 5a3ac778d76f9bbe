"""What can be asked for: a table from paths to entries, made from a folder beforehand.

A request is a look into a dictionary, never at a file system: `..`, absolute names, links and
whatever spelling of them are paths that are not in the table. Pure but for `Source.open`, which
opens the one file it was made for and no other.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import quote_from_bytes

IN_MEMORY_MAX = 16 << 20
"""Files up to this size are answered from memory while there is room: a tenth less processor time
for 10 MB than reading them again each time. Never by mmap: a file that becomes shorter would end
the process (SIGBUS)."""

CSP = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)

CODINGS = {b".br": b"br", b".gz": b"gzip"}
"""Content-Encoding by the suffix of a file's twin, best first."""


class Changed(OSError):
    """The file is no longer the one that the table was made from."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was when it was read; while this is equal its content is."""

    path: bytes
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: bytes, stat: os.stat_result) -> Source:
        """From what stat says."""
        return cls(path, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    def open(self) -> int:
        """A descriptor of just this file. Raises Changed, or another OSError."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        if Source.of(self.path, os.fstat(descriptor)) != self:
            os.close(descriptor)
            raise Changed(f"{os.fsdecode(self.path)} has changed")
        return descriptor


@dataclass(slots=True)
class Variant:
    """One representation of an entry: as it is, or compressed beforehand."""

    coding: bytes
    """Content-Encoding; b"" for none."""
    size: int
    etag: bytes
    """Strong, with its quotes."""
    fields: bytes
    """Header lines that 200, 206 and 304 share, each with its end."""
    full: bytes
    """Of a 200: `fields`, Content-Length, the empty line, and the body if it is in memory."""
    body: memoryview | None
    """In `full`; None: read `source`."""
    source: Source | None


@dataclass(slots=True)
class Entry:
    """What one path answers."""

    plain: Variant
    coded: dict[bytes, Variant] = field(default_factory=dict)
    """By Content-Encoding."""
    modified_s: int = 0


@dataclass(frozen=True, slots=True)
class Redirect:
    """A folder asked for without its slash."""

    location: bytes


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that can be asked for; never changed, only replaced."""

    paths: Mapping[bytes, Entry | Redirect] = field(default_factory=dict)
    fallback: Entry | None = None
    """The answer to paths of pages that are not there (single-page applications)."""
    memory_bytes: int = 0


def strong_etag(digest: bytes) -> bytes:
    """An entity tag of a content's hash."""
    return b'"' + base64.urlsafe_b64encode(digest[:15]) + b'"'


def content_hash() -> hashlib.blake2b:
    """The hash that entity tags are made by."""
    return hashlib.blake2b(digest_size=15)


def security_fields(csp: str = CSP) -> bytes:
    """Header lines that every answer of our own carries."""
    return (
        "X-Content-Type-Options: nosniff\r\n"
        f"Content-Security-Policy: {csp}\r\n"
        "Referrer-Policy: no-referrer\r\n"
        "Cross-Origin-Opener-Policy: same-origin\r\n"
        "Cross-Origin-Resource-Policy: same-origin\r\n"
    ).encode()


def variant(
    *,
    content_type: str,
    etag: bytes,
    modified_s: int,
    size: int,
    body: bytes | memoryview | None,
    source: Source | None,
    security: bytes,
    coding: bytes = b"",
    vary: bool = False,
) -> Variant:
    """Make a representation with its header lines."""
    lines = [
        b"Content-Type: %b\r\n" % content_type.encode("latin-1"),
        b"Content-Encoding: %b\r\n" % coding if coding else b"",
        b"ETag: %b\r\n" % etag,
        b"Last-Modified: %b\r\n" % formatdate(modified_s, usegmt=True).encode(),
        b"Vary: Accept-Encoding\r\n" if vary else b"",
        b"Cache-Control: no-cache\r\nAccept-Ranges: bytes\r\n",
        security,
    ]
    fields = b"".join(lines)
    full = b"".join([fields, b"Content-Length: %d\r\n\r\n" % size, body or b""])
    view = memoryview(full)[len(full) - size :] if body is not None else None
    return Variant(coding, size, etag, fields, full, view, source)


def page(content: str, *, security: bytes, modified_s: int) -> Entry:
    """An entry made here: a listing."""
    body = content.encode("utf-8", "surrogateescape")
    digest = content_hash()
    digest.update(body)
    made = variant(
        content_type="text/html; charset=utf-8",
        etag=strong_etag(digest.digest()),
        modified_s=modified_s,
        size=len(body),
        body=body,
        source=None,
        security=security,
    )
    return Entry(made, modified_s=modified_s)


def listing(path: bytes, names: Iterable[bytes]) -> str:
    """The page that lists a folder; folders' names end with a slash."""
    title = html.escape(os.fsdecode(path))
    rows = [] if path == b"/" else ['<li><a href="../">../</a></li>']
    for name in sorted(names):
        # `./` keeps a name with a colon in it from being read as a scheme
        link = "./" + quote_from_bytes(name, safe="/~")
        rows.append(f'<li><a href="{link}">{html.escape(os.fsdecode(name))}</a></li>')
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"</head>\n<body><h1>{title}</h1>\n<ul>\n" + "\n".join(rows) + "\n</ul></body></html>\n"
    )
