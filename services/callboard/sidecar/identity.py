"""The sidecar's identity: as other programs', followed by a thread instead of a loop's task."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Mapping

from callboard.chassis.identity import Exchange, Keeper, material, obtain
from callboard.chassis.identity_settings import IdentitySettings
from callboard.chassis.lifecycle import StartRefused
from callboard.pki.contexts import server_context
from callboard.pki.live import LiveIdentity
from callboard.pki.reasons import explain_files

log = logging.getLogger(__name__)

CRYPTOGRAPHY_MIN = 42
"""The first with certificates' times in UTC and `x509.verification`."""


class FollowedIdentity:
    """An identity, and the thread that looks whether its files are others now."""

    def __init__(self, live: LiveIdentity, keeper: Keeper) -> None:
        """Begin to follow; the thread ends with the program."""
        self.live = live
        self._keeper = keeper
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._follow, name="identity", daemon=True).start()

    def look(self) -> None:
        """Look now (SIGHUP); returns at once."""
        asyncio.run_coroutine_threadsafe(self._keeper.look(), self._loop)

    def figures(self) -> Mapping[str, float]:
        """What other programs show of theirs at /metrics."""
        return {
            "certificate_days_left": self._keeper.days_left(),
            "revocation_list_days_left": self._keeper.list_days_left(),
            "certificate_reloads_total": float(self.live.generation),
        }

    def _follow(self) -> None:
        try:
            self._loop.run_until_complete(self._keeper.follow())
        except Exception:
            log.exception("certificate files are not followed any more")


def _check_cryptography() -> None:
    """Refuse one that cannot judge certificates (Debian 12 has 38) before a key is made with it:
    what is left then would look like an identity. Raises StartRefused."""
    try:
        import cryptography  # noqa: PLC0415 - an exchange alone needs it
    except ImportError:
        found = "none"
    else:
        found = cryptography.__version__
        if int(found.partition(".")[0]) >= CRYPTOGRAPHY_MIN:
            return
    raise StartRefused(
        f"-exchange needs python3-cryptography {CRYPTOGRAPHY_MIN} or newer, {found} is here: give "
        "the files by -cert-file, -key-file and -ca-file, or -mutual-tls=off"
    )


def open_identity(settings: IdentitySettings, node: str) -> FollowedIdentity | None:
    """The identity, followed until the program's end; None when it has none. Waits for the issuer
    where one is to be asked. Raises StartRefused."""
    if not settings.given:
        return None
    exchange = None
    if settings.exchange is not None and settings.directory is not None:
        _check_cryptography()
        exchange = Exchange(settings.directory, settings.exchange, node)
        asyncio.run(obtain(exchange))
    files = material(settings)
    try:
        live = LiveIdentity(files)
        server_context(files, client=ssl.CERT_REQUIRED)
    except (OSError, ValueError) as problem:
        raise StartRefused(f"identity: {explain_files(problem, files)}") from problem
    return FollowedIdentity(live, Keeper(live, exchange, None))
