"""Reads a folder into a table, and again when something in it has changed.

Runs in a thread: nothing here is done by the event loop. What did not change is not read again.
Left out: names that begin with a dot, keys by name or content, links to outside of the root (and
to folders), what is no regular file, what cannot be read.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_from_bytes

from callboard.fileserver.entries import (
    CODINGS,
    CSP,
    IN_MEMORY_MAX,
    Entry,
    Redirect,
    Source,
    Table,
    Variant,
    content_hash,
    listing,
    page,
    security_fields,
    strong_etag,
    variant,
)
from callboard.fileserver.mime import content_type
from callboard.fileserver.secrets import OVERLAP, has_key, is_hidden_name

log = logging.getLogger(__name__)

FILES_MAX = 100_000
DEPTH_MAX = 64
MEMORY_BYTES_MAX = 128 << 20
"""Of bodies kept, small files first; beyond, files are read when they are asked for."""
PART_BYTES = 1 << 20
SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again without a new time."""


class FolderError(OSError):
    """The folder cannot be served; the text says why."""


@dataclass(slots=True)
class _Content:
    """What was read of a file."""

    source: Source
    digest: bytes
    body: bytes | memoryview | None
    """None: too big to keep."""
    secret: bool
    settled: bool
    modified_s: int
    """For Last-Modified, which is never in the future (RFC 9110, 8.8.2.1)."""
    variants: dict[tuple[str, bytes, bool], Variant] = field(default_factory=dict)

    def variant(self, kind: str, security: bytes, *, coding: bytes = b"", vary: bool) -> Variant:
        """This content as an answer; made once, and the body is kept once only."""
        key = (kind, coding, vary)
        if key not in self.variants:
            made = variant(
                content_type=kind,
                etag=strong_etag(self.digest),
                modified_s=self.modified_s,
                size=self.source.size,
                body=self.body,
                source=self.source,
                security=security,
                coding=coding,
                vary=vary,
            )
            self.variants[key] = made
            self.body = made.body
        return self.variants[key]


@dataclass(slots=True)
class Folder:
    """A root folder, and what was read of it last."""

    root: bytes
    spa: bool = False
    listings: bool = False
    csp: str = CSP
    hidden: frozenset[tuple[int, int]] = frozenset()
    """(device, inode) of files never served: the server's own keys."""
    _known: dict[bytes, _Content] = field(default_factory=dict)
    """By path, of the last reading."""
    _told: set[bytes] = field(default_factory=set)
    _signature: object = None

    def read(self) -> Table | None:
        """The table as the folder is now; None when nothing has changed. Raises FolderError."""
        root = os.path.realpath(self.root)
        if not Path(os.fsdecode(root)).is_dir():
            raise FolderError(f"{os.fsdecode(self.root)} is no folder")
        files: dict[bytes, Source] = {}
        folders = dict(self._walk(root, files))
        known: dict[bytes, _Content] = {}
        kept = 0
        for source in sorted(files.values(), key=_size):
            if source.path in known:
                continue
            content = self._content(source, MEMORY_BYTES_MAX - kept)
            if content is not None:
                known[source.path] = content
                kept += len(content.body or b"")
        self._known = known
        contents = {
            url: content
            for url, source in files.items()
            if (content := known.get(source.path)) is not None and not content.secret
        }
        signature = (
            {url: content.source for url, content in contents.items()},
            {url: tuple(sorted(names)) for url, names in folders.items()},
        )
        if signature == self._signature:
            return None
        self._signature = signature
        return self._table(contents, folders, kept)

    def _walk(self, root: bytes, files: dict[bytes, Source]) -> Iterator[tuple[bytes, list[bytes]]]:
        """(URL of a folder, names in it) of every folder; files are put into `files`."""
        pending: list[tuple[bytes, bytes, int]] = [(root, b"/", 0)]
        while pending:
            path, url, depth = pending.pop()
            names: list[bytes] = []
            try:
                with os.scandir(path) as found:
                    members = list(found)
            except OSError as problem:
                if depth == 0:
                    raise FolderError(str(problem)) from problem
                continue
            for member in members:
                if is_hidden_name(member.name):
                    continue
                if member.is_dir(follow_symlinks=False):
                    if depth < DEPTH_MAX:
                        pending.append((member.path, url + member.name + b"/", depth + 1))
                        names.append(member.name + b"/")
                    continue
                source = self._source(member, root)
                if source is not None:
                    files[url + member.name] = source
                    names.append(member.name)
            if len(files) > FILES_MAX:
                raise FolderError(f"more than {FILES_MAX} files in {os.fsdecode(root)}")
            yield url, names

    def _source(self, member: os.DirEntry[bytes], root: bytes) -> Source | None:
        """The file behind a name; None when it is not to be served."""
        path = member.path
        try:
            if member.is_symlink():
                path = os.path.realpath(path)
                inside = path.removeprefix(root.rstrip(b"/") + b"/")
                if inside == path or any(map(is_hidden_name, inside.split(b"/"))):
                    return None
            found = os.lstat(path)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) in self.hidden:
            return None
        return Source.of(path, found)

    def _content(self, source: Source, room: int) -> _Content | None:
        """What a file holds, from last time if it is the same; None when it cannot be read."""
        known = self._known.get(source.path)
        if known is not None and known.settled and known.source == source:
            return known
        try:
            content = _read(source, room)
        except OSError as problem:
            log.debug("not served: %s", problem)
            return None
        if content.secret and source.path not in self._told:
            self._told.add(source.path)
            log.warning(
                "a private key lies under the root; it is not served",
                extra={"path": os.fsdecode(source.path)},
            )
        if known is not None and known.source == source and known.digest == content.digest:
            known.settled = content.settled
            return known
        if known is not None and known.source == source:
            self._signature = None  # other content, the same times
        return content

    def _table(
        self, contents: dict[bytes, _Content], folders: dict[bytes, list[bytes]], kept: int
    ) -> Table:
        security = security_fields(self.csp)
        paths: dict[bytes, Entry | Redirect] = {}
        for url, content in contents.items():
            kind = content_type(os.fsdecode(url))
            modified_ns = content.source.modified_ns
            twins = {
                coding: twin
                for suffix, coding in CODINGS.items()
                if (twin := contents.get(url + suffix)) is not None
                and twin.source.modified_ns >= modified_ns
            }
            paths[url] = Entry(
                content.variant(kind, security, vary=bool(twins)),
                {
                    coding: twin.variant(kind, security, coding=coding, vary=True)
                    for coding, twin in twins.items()
                },
                content.modified_s,
            )
        for url, names in folders.items():
            self._add_folder(paths, url, names, security)
        fallback = paths.get(b"/index.html") if self.spa else None
        return Table(paths, fallback if isinstance(fallback, Entry) else None, kept)

    def _add_folder(
        self,
        paths: dict[bytes, Entry | Redirect],
        url: bytes,
        names: list[bytes],
        security: bytes,
    ) -> None:
        """Let a folder answer with its index.html, or with a listing if that is wanted."""
        index = paths.get(url + b"index.html")
        if index is None and self.listings:
            shown = [name for name in names if name[-1:] == b"/" or url + name in paths]
            index = page(listing(url, shown), security=security, modified_s=int(time.time()))
        if index is not None:
            paths[url] = index
            if url != b"/":
                location = quote_from_bytes(url, safe="/~").encode()
                paths.setdefault(url[:-1], Redirect(location))


def _size(source: Source) -> int:
    return source.size


def _read(source: Source, room: int) -> _Content:
    """Read a file whole, hash it, look for keys. Raises OSError."""
    keep = source.size <= min(IN_MEMORY_MAX, room)
    digest = content_hash()
    parts: list[bytes] = []
    secret, tail, size = False, b"", 0
    descriptor = source.open()
    try:
        while part := os.read(descriptor, PART_BYTES):
            digest.update(part)
            secret = secret or has_key(tail + part, first=size == 0)
            tail = part[-OVERLAP:]
            size += len(part)
            if keep:
                parts.append(part)
        again = Source.of(source.path, os.fstat(descriptor))
    finally:
        os.close(descriptor)
    if again != source or size != source.size:
        raise OSError(f"{os.fsdecode(source.path)} changed while it was read")
    now_ns = time.time_ns()
    settled = now_ns - max(source.modified_ns, source.changed_ns) > SETTLED_NS
    modified_s = max(0, min(source.modified_ns, now_ns)) // 1_000_000_000
    body = b"".join(parts) if keep else None
    return _Content(source, digest.digest(), body, secret, settled, modified_s)
