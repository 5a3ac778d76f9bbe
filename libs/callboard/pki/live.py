"""Contexts that follow their files: certificate, CA and revocation list changed as one.

A context that is in use cannot be changed safely: a mismatched pair leaves it broken, a CA cannot
be taken out, a resumed session of a revoked client would still get in. So each change makes a
fresh context, and `LiveContext` hands every new connection to the newest; connections that stand
are for `callboard.pki.standing` to judge. When the new files do not load the
old context stays, and the log says why.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from callboard.pki.contexts import Material, client_context, server_context
from callboard.pki.reasons import explain_files

log = logging.getLogger(__name__)

POLL_S = 10.0
"""Files are looked at this often: notifications do not cross some mounts."""

Judge = Callable[[bytes], str | None]
"""Why a certificate (DER) that was accepted once is not accepted any more; None while it is."""
Signature = tuple[tuple[int, int, int], ...]


class LiveContext(ssl.SSLContext):
    """An SSLContext for asyncio, uvloop and aiohttp whose inside can be exchanged.

    Only what those call is handed on: `wrap_bio`, `wrap_socket`.
    """

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> LiveContext:
        """Wrap a context."""
        made = super().__new__(cls, current.protocol)
        made.current = current
        made.check_hostname = current.check_hostname
        made.verify_mode = current.verify_mode
        return made

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As SSLContext's, with the newest files."""
        return self.current.wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As SSLContext's, with the newest files."""
        return self.current.wrap_socket(*args, **kwargs)


class LiveIdentity:
    """A program's own certificate and whom it trusts, for its listeners and its connections.

    Raises OSError (ssl.SSLError among them) or ValueError when the files do not load at first.
    """

    def __init__(self, material: Material) -> None:
        self.material = material
        self._check_there()
        self._contexts: list[tuple[LiveContext, Callable[[], ssl.SSLContext]]] = []
        self._signature = self._look()
        self._refused: Signature | None = None
        self.generation = 0
        """How often the files were taken in anew."""

    def for_clients(
        self, *, client: ssl.VerifyMode = ssl.CERT_REQUIRED, alpn: tuple[str, ...] = ()
    ) -> LiveContext:
        """A listener's context that follows the files."""
        return self._keep(lambda: server_context(self.material, client=client, alpn=alpn))

    def for_servers(self, *, alpn: tuple[str, ...] = ()) -> LiveContext:
        """A context for connecting that follows the files."""
        return self._keep(lambda: client_context(self.material, alpn=alpn))

    def look(self) -> bool:
        """Take changed files in; whether that was so. Never raises: the log tells."""
        seen = self._look()
        if seen in (self._signature, self._refused):
            return False
        try:
            self._check_there()
            fresh = [make() for _, make in self._contexts]
        except (OSError, ValueError) as problem:
            self._refused = seen
            why = explain_files(problem, self.material)
            log.warning("certificate files not taken, the old ones stay: %s", why)
            return False
        for (live, _), context in zip(self._contexts, fresh, strict=True):
            live.current = context
        self._signature, self._refused = seen, None
        self.generation += 1
        log.info("certificate files taken anew: %s", self.material.certificate)
        return True

    def _keep(self, make: Callable[[], ssl.SSLContext]) -> LiveContext:
        live = LiveContext(make())
        self._contexts.append((live, make))
        return live

    def _check_there(self) -> None:
        """Raise OSError for a file that is gone: where no context was made, none says so."""
        for path in self.material.files():
            path.stat()

    def _look(self) -> Signature:
        """What stat says of each file; zeros for one that is not there."""
        return tuple(map(_seen, self.material.files()))


def _seen(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0, 0
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
