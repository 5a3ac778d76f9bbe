"""Replicated reads: which barrier they pass, when they block, and the headers they carry.

default and consistent: a ReadIndex round begun after the request came, shared by all requests of
a loop tick (Consul's default trusts a lease; ours is linearizable). stale: what this agent has,
unless it is older than allowed. Nothing is read before the engine is ready, stale neither.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

from callboard.agent.http.blocking import BlockingQuery, effective_wait_s
from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import Call, json_answer
from callboard.agent.http.parameters import ReadOptions, read_options
from callboard.agent.http.renderings import Renderings
from callboard.agent.ports import NotReady
from callboard.catalog.authorizer import ALLOW_ALL
from callboard.catalog.changes import WatchKey
from callboard.serve import Answer, Outcome, Request, Settled

Render = Callable[[], Answer]
"""Makes the answer from the store as it is now; headers are added here."""
_CONTACT_MS_MAX = 1e12
"""What is shown of a leader that was never heard."""


class Reads:
    """Serves reads of the replicated state."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._kept = Renderings()

    def discovery(
        self, call: Call, key: WatchKey, render: Callable[[], bytes], form: Hashable
    ) -> Outcome:
        """A read of the catalog or of health: JSON, with X-Consul-Effective-Consistency.

        `form` tells this body from others made of the same resource: endpoint and filters.
        """
        request = call.request
        keep = call.rights is ALLOW_ALL and "peer" not in request.query

        def made() -> Answer:
            index = self._context.store.index(key)
            body = self._kept.get(key, form, index) if keep else None
            if body is None:
                body = render()
                if keep:
                    self._kept.put(key, form, index, body)
            return json_answer(body)

        stale_s = self._context.http.discovery_max_stale_s
        options = read_options(request, self._context.datacenter, discovery_max_stale_s=stale_s)
        return self._read(options, key, made, effective=True)

    def keys(self, request: Request, key: WatchKey, render: Render) -> Outcome:
        """A read of the key/value store."""
        options = read_options(request, self._context.datacenter)
        return self._read(options, key, render, effective=False)

    def fixed(self, request: Request, render: Render) -> Outcome:
        """A read of what never changes: no index, but not before the agent is ready."""
        read_options(request, self._context.datacenter)
        if not self._context.engine.ready:
            raise NotReady
        return render()

    def _read(
        self, options: ReadOptions, key: WatchKey, render: Render, *, effective: bool
    ) -> Outcome:
        engine = self._context.engine
        if not engine.ready:
            raise NotReady
        if (
            options.consistency == "stale"
            and options.max_stale_s
            and engine.last_contact_s > options.max_stale_s
        ):
            options = replace(options, consistency="leader")
        if options.consistency == "stale":
            return self._settle(options, key, render, effective=effective)
        return self._after_barrier(options, key, render, effective=effective)

    async def _after_barrier(
        self, options: ReadOptions, key: WatchKey, render: Render, *, effective: bool
    ) -> Settled:
        await self._context.engine.read_index(self._context.hold_timeout_s)
        return self._settle(options, key, render, effective=effective)

    def _settle(
        self, options: ReadOptions, key: WatchKey, render: Render, *, effective: bool
    ) -> Settled:
        store = self._context.store
        consistency = options.consistency if effective else ""

        def answer() -> Answer:
            made = render()
            made.headers += self.headers(store.index(key), consistency)
            return made

        if options.index > 0 and max(1, store.index(key)) <= options.index:
            wait_s = effective_wait_s(self._context, options.wait_s)
            return BlockingQuery(self._context, key, options.index, wait_s, answer)
        return answer()

    def headers(self, index: int, consistency: str) -> list[tuple[str, str]]:
        """The headers of a replicated read, in Go's spelling."""
        engine = self._context.engine
        made = [
            ("X-Consul-Index", str(max(1, index))),
            ("X-Consul-Knownleader", "true" if engine.leader is not None else "false"),
            ("X-Consul-Lastcontact", str(int(min(engine.last_contact_s * 1000, _CONTACT_MS_MAX)))),
        ]
        if consistency:
            made.append(("X-Consul-Effective-Consistency", consistency))
            made.append(("X-Consul-Query-Backend", "blocking-query"))
        return made
