"""/v1/agent/self, members, join, leave …: the agent as a process and as a member."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

import msgspec

from callboard.agent.http.catalog import DENIED, required
from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import KEEPERS, Call, Resource, empty_answer, json_answer
from callboard.agent.http.parameters import boolean, first, not_yet, refuse_later
from callboard.agent.http.problems import ApiError
from callboard.agent.membership.tags import as_consul
from callboard.catalog import render
from callboard.catalog.version import CONSUL_VERSION, VERSION
from callboard.pki.roles import WrongRole, authorise
from callboard.serve import Answer, Outcome, Request
from callboard.swim.serf_members import MemberStatus, SerfMember

_STATUS_NUMBERS = {
    MemberStatus.ALIVE: 1,
    MemberStatus.LEAVING: 2,
    MemberStatus.LEFT: 3,
    MemberStatus.FAILED: 4,
    MemberStatus.REAP: 5,
}


class AgentProcessEndpoints:
    """See the module."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def resources(self) -> Iterable[Resource]:
        """The paths served here."""
        for pattern, method, endpoint, summary, rest in (
            ("self", "GET", self.self, "This agent: configuration, member, statistics", ""),
            ("members", "GET", self.members, "The members gossip knows", ""),
            ("version", "GET", self.version, "The version", ""),
            ("metrics", "GET", self.metrics, "Metrics, in Prometheus' format", ""),
            ("join/", "PUT", self.join, "Join a member at an address", "address"),
            ("leave", "PUT", self.leave, "Leave the cluster and stop", ""),
            ("force-leave/", "PUT", self.force_leave, "Declare a failed member left", "node"),
            ("reload", "PUT", self.reload, "Read the configuration files again", ""),
        ):
            yield Resource(
                f"/v1/agent/{pattern}",
                {method: endpoint},
                summary,
                rest,
                replicated=False,
                tags=("agent",),
            )

    # ------------------------------------------------------------------ reads

    def self(self, call: Call) -> Outcome:
        """What this agent is. `Config.Version` is the Consul whose API we speak."""
        if not call.rights.agent_read(self._context.node_name):
            raise ApiError(403, DENIED)
        context = self._context
        own = next((m for m in context.membership.members() if m.name == context.node_name), None)
        document = {
            "Config": {
                "Datacenter": context.datacenter,
                "PrimaryDatacenter": context.datacenter,
                "NodeName": context.node_name,
                "NodeID": context.node_id,
                "Partition": "default",
                "Revision": f"callboard-{VERSION}",
                "Server": context.server,
                "Version": CONSUL_VERSION,
                "BuildDate": "1970-01-01T00:00:01Z",
            },
            "DebugConfig": dict(context.debug_config),
            "Coord": None,
            "Member": None if own is None else member_json(own),
            "Stats": self._stats(),
            "Meta": _meta(context),
            "xDS": None,
        }
        return json_answer(render.json(document))

    def _stats(self) -> Mapping[str, Mapping[str, str]]:
        context = self._context
        engine = context.engine
        leader = engine.leader
        stats: dict[str, dict[str, str]] = {
            "agent": {
                "checks": str(len(self._context.local.checks())),
                "services": str(len(self._context.local.services())),
            },
            "build": {"version": CONSUL_VERSION, "callboard": VERSION, "revision": ""},
            "consul": {
                "leader": _text(engine.is_leader),
                "leader_addr": leader.address if leader is not None else "",
                "server": _text(self._context.server),
                "acl": "disabled",
                "bootstrap": _text(context.debug_config.get("Bootstrap") is True),
                "known_datacenters": "1",
            },
            "raft": {
                "applied_index": str(self._context.store.applied_index),
                "commit_index": str(engine.commit_index),
                "term": str(engine.term),
                "num_peers": str(max(0, len(engine.voters) - 1)),
                "state": "Leader" if engine.is_leader else "Follower",
            },
            "runtime": {},
            "serf_lan": {"members": str(len(self._context.membership.members()))},
            "serf_wan": {},
        }
        for section, values in self._context.stats().items():
            stats.setdefault(section, {}).update(values)
        return stats

    def members(self, call: Call) -> Outcome:
        """The members of the datacenter; with ?wan its servers, as in Consul's wide area pool."""
        refuse_later(call.request, ("filter",))
        segment = first(call.request, "segment")
        if segment and segment != "_all":
            raise ApiError(500, "Network segments are not supported in this version of Consul")
        members = [
            member_json(member)
            for member in sorted(self._context.membership.members(), key=lambda m: m.name)
            if call.rights.node_read(member.name)
        ]
        if "wan" in call.request.query:
            members = [wan_member(member) for member in members if member.Tags["role"] == "consul"]
        return json_answer(render.json(members))

    def version(self, call: Call) -> Outcome:
        """Which Consul we speak, and which Callboard we are."""
        if not call.rights.agent_read(self._context.node_name):
            raise ApiError(403, DENIED)
        return json_answer(
            render.json(
                {
                    "SHA": "",
                    "BuildDate": "1970-01-01T00:00:01Z",
                    "HumanVersion": CONSUL_VERSION,
                    "FIPS": "",
                    "Callboard": VERSION,
                }
            )
        )

    def metrics(self, call: Call) -> Outcome:
        """In Prometheus' text format only."""
        if not call.rights.agent_read(self._context.node_name):
            raise ApiError(403, DENIED)
        if first(call.request, "format") != "prometheus" or self._context.metrics is None:
            raise ApiError(501, "agent/metrics is there with ?format=prometheus only")
        return Answer(200, self._context.metrics(), [], "text/plain; version=0.0.4; charset=utf-8")

    # ------------------------------------------------------------------ writes

    async def join(self, call: Call) -> Answer:
        """500 with the reason when nobody answers there."""
        address = unquote(required(call.rest, "Missing address"))
        if "wan" in call.request.query:
            raise not_yet("wan")
        self._authorize(call)
        try:
            await self._context.membership.join([address])
        except Exception as problem:
            reason = str(problem).removeprefix(f"{address}: ")
            text = f"1 error occurred:\n\t* Failed to join {address}: {reason}\n\n"
            raise ApiError(500, text) from problem
        return empty_answer()

    async def leave(self, call: Call) -> Answer:
        """Answered once the members know; the agent stops after that."""
        self._authorize(call)
        await self._context.leave()
        return empty_answer()

    async def force_leave(self, call: Call) -> Answer:
        """500 for a member that is unknown."""
        name = call.rest
        if not call.rights.operator_write():
            raise ApiError(403, DENIED)
        _authorize_peer(call.request)
        known = {member.name for member in self._context.membership.members()}
        if name not in known and name.removesuffix(f".{self._context.datacenter}") not in known:
            raise ApiError(
                500,
                f"agent: No node found with name '{name}'",
            )
        pruning = "prune" in call.request.query
        pruning = pruning and boolean(first(call.request, "prune") or "true") is True
        await self._context.membership.force_leave(name, prune=pruning)
        return empty_answer()

    async def reload(self, call: Call) -> Answer:
        """500 with the reason when the files cannot be used."""
        self._authorize(call)
        try:
            await self._context.reload()
        except Exception as problem:
            raise ApiError(500, str(problem) or "reload failed") from problem
        return empty_answer()

    def _authorize(self, call: Call) -> None:
        if not call.rights.agent_write(self._context.node_name):
            raise ApiError(403, DENIED)
        _authorize_peer(call.request)


def _authorize_peer(request: Request) -> None:
    """By mutual TLS agents are changed by agents and people, not by the programs they serve."""
    if request.peer is None:
        return
    try:
        authorise(request.peer, KEEPERS, f"{request.method} {request.path}")
    except WrongRole as problem:
        raise ApiError(403, str(problem)) from problem


class ShownMember(msgspec.Struct, frozen=True):
    """serf.Member as the API shows it, in Consul's key order."""

    Name: str
    Addr: str
    Port: int
    Tags: dict[str, str]
    Status: int
    ProtocolMin: int
    ProtocolMax: int
    ProtocolCur: int
    DelegateMin: int
    DelegateMax: int
    DelegateCur: int


def member_json(member: SerfMember) -> ShownMember:
    """A member in Consul's shape (serf.Member), with the role Consul's users know."""
    versions = member.versions
    return ShownMember(
        member.name,
        member.address,
        member.port,
        as_consul(member.tags),
        _STATUS_NUMBERS.get(MemberStatus(member.status), 0),
        versions.protocol_min,
        versions.protocol_max,
        versions.protocol_current,
        versions.delegate_min,
        versions.delegate_max,
        versions.delegate_current,
    )


def wan_member(member: ShownMember) -> ShownMember:
    """A server by its name in the wide area pool. There is one datacenter, and no such pool."""
    return msgspec.structs.replace(member, Name=f"{member.Name}.{member.Tags['dc']}")


def _meta(context: ApiContext) -> object:
    """The node's meta; as configured where the catalog is not at hand (a client agent)."""
    node = context.store.node(context.node_name)
    return context.debug_config.get("NodeMeta", {}) if node is None else node.meta


def _text(value: bool) -> str:
    return "true" if value else "false"
