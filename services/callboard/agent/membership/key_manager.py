"""The keys of gossip while the agent runs: change our own, and ask everybody to change theirs.

Rotation is install, use, remove: each is asked of all members, and is done when all have answered
that they did it. Our own keyring changes on the disk first, so that what we answered survives us.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from callboard.agent.membership.keyring_file import write_keyring
from callboard.agent.membership.settings import Settings
from callboard.swim.key_queries import (
    KeyAction,
    KeyQuery,
    KeyResponse,
    KeyTally,
    encode_key_response,
)
from callboard.swim.keyring import NONCE_BYTES, Keyring
from callboard.swim.serf import Serf
from callboard.swim.serf_messages import QueryResponse

log = logging.getLogger(__name__)

WAITING_MAX = 16
"""Questions of others that wait for the disk; more go unanswered, and the asker learns that."""
OWN_BYTES_MAX = 1 << 16
"""Of our own answer, which is no datagram."""

_PAST = {KeyAction.INSTALL: "installed", KeyAction.USE: "taken", KeyAction.REMOVE: "removed"}


@dataclass(slots=True)
class _Asked:
    """A query of ours that waits for answers."""

    tally: KeyTally
    complete: asyncio.Event


class KeyManager:
    """One agent's keys."""

    def __init__(
        self,
        settings: Settings,
        core: Callable[[], Serf],
        spawn: Callable[[Coroutine[object, object, None]], None],
        pump: Callable[[], None],
    ) -> None:
        """`core`, `spawn`, `pump`: the membership's core, its tasks, what sends what it said.

        Raises ValueError for a key of an impossible length.
        """
        keys = settings.keys
        self.keyring = Keyring(keys, lambda: secrets.token_bytes(NONCE_BYTES)) if keys else None
        """What gossip is encrypted by; None where it is plain."""
        self._path = settings.keyring_path
        self._core = core
        self._spawn = spawn
        self._pump = pump
        self._asked: dict[tuple[int, int], _Asked] = {}
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Future[KeyResponse]] = set()
        self._waiting = 0

    async def ask(self, action: KeyAction, key: bytes = b"", relay_factor: int = 0) -> KeyTally:
        """Ask everybody, ourselves included. Returns once all have answered, or after serf's time
        limit; `failure` of what is returned tells whether that is a success.

        Raises ValueError for a key that is too long to be one.
        """
        core = self._core()
        tally = KeyTally(core.live_count())
        query = core.ask_keys(action, key, relay_factor)
        asked = _Asked(tally, asyncio.Event())
        self._asked[query.time, query.number] = asked
        try:
            self._pump()
            async with asyncio.timeout(core.query_timeout_s()):
                payload = encode_key_response(await self.change(action, key), OWN_BYTES_MAX)
                self.answered(QueryResponse(query.time, query.number, core.name, 0, payload))
                await self._half_time(asked, core.query_timeout_s() / 2)
                core.repeat(query, tally.heard)  # gossip spreads by chance, and may miss one
                self._pump()
                await asked.complete.wait()
        except TimeoutError:
            pass  # the tally tells who is missing
        finally:
            del self._asked[query.time, query.number]
        if tally.failure:
            log.warning(
                "a change of gossip's keys failed: %s",
                tally.failure,
                extra={"action": str(action), "members": tally.messages},
            )
        return tally

    async def _half_time(self, asked: _Asked, wait_s: float) -> None:
        """Wait for the answers, but not so long as that nothing could be done any more."""
        try:
            async with asyncio.timeout(wait_s):
                await asked.complete.wait()
        except TimeoutError:
            pass

    def answered(self, response: QueryResponse) -> None:
        """A member answers a query; what was not asked, or is over, is passed over."""
        asked = self._asked.get((response.time, response.number))
        if asked is not None:
            asked.tally.add(response)
            if asked.tally.complete:
                asked.complete.set()

    def was_asked(self, asked: KeyQuery) -> None:
        """A member asks us."""
        if self._waiting < WAITING_MAX:
            self._waiting += 1
            self._spawn(self._answer(asked))

    async def _answer(self, asked: KeyQuery) -> None:
        try:
            response = await self.change(asked.action, asked.key)
            self._core().answer_keys(asked, response)
            self._pump()
        finally:
            self._waiting -= 1

    async def change(self, action: KeyAction, key: bytes) -> KeyResponse:
        """Do it to our own keyring, on the disk first; the answer, in serf's words.

        What has begun is ended, in order, though nobody waits any more: file and memory agree.
        """
        change = asyncio.ensure_future(self._change(action, key))
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)
        return await asyncio.shield(change)

    async def _change(self, action: KeyAction, key: bytes) -> KeyResponse:
        keyring = self.keyring
        if action is KeyAction.LIST:
            if keyring is None:
                return KeyResponse(False, "Keyring is empty (encryption not enabled)")
            return KeyResponse(True, keys=keyring.keys)
        if keyring is None:
            return KeyResponse(False, "No keyring to modify (encryption not enabled)")
        async with self._changing:
            changed = keyring.copy()
            try:
                _apply(changed, action, key)
                if self._path is not None and changed.keys != keyring.keys:
                    await asyncio.to_thread(write_keyring, self._path, changed.keys)
            except ValueError as problem:
                return KeyResponse(False, str(problem))
            except OSError as problem:
                log.error("cannot keep the keyring: %s", problem, extra={"path": str(self._path)})
                return KeyResponse(False, f"cannot keep the keyring: {problem.strerror}")
            if changed.keys != keyring.keys:
                _apply(keyring, action, key)
                log.info("a key of gossip was %s", _PAST[action], extra={"keys": len(keyring.keys)})
        return KeyResponse(True)


def _apply(keyring: Keyring, action: KeyAction, key: bytes) -> None:
    """Raises ValueError, in memberlist's words."""
    if action is KeyAction.INSTALL:
        keyring.install(key)
    elif action is KeyAction.USE:
        keyring.use(key)
    else:
        keyring.remove(key)
