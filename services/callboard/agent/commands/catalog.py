"""Shows the catalog: datacenters, nodes, services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import (
    Agent,
    Failed,
    call_agent,
    columns,
    dispatch,
    failing,
    flag_set,
    rows_of,
    texts_of,
)
from callboard.chassis import flags
from callboard.chassis.flags import FlagError, Parsed

USAGE = """Usage: callboard catalog <subcommand> [options]

  Shows the catalog.

      callboard catalog datacenters
      callboard catalog nodes [-service=name] [-detailed]
      callboard catalog services [-node=name] [-tags]"""

DATACENTERS = flag_set(
    "Usage: callboard catalog datacenters [options]\n\n  Lists the known datacenters.",
    server=False,
)

NODES = flag_set(
    "Usage: callboard catalog nodes [options]\n\n  Lists the nodes, or those of a service.",
    flags.switch("detailed", "show tagged addresses and meta too"),
    flags.text("near", "sort by the distance from this node"),
    flags.repeated("node-meta", "key=value: only nodes that have it; may be repeated"),
    flags.text("service", "only nodes that have this service"),
    flags.text("filter", "expression that selects nodes"),
)

SERVICES = flag_set(
    "Usage: callboard catalog services [options]\n\n  Lists the services, or those of a node.",
    flags.text("node", "only services of this node, by name or id"),
    flags.repeated("node-meta", "key=value: only services on such nodes; may be repeated"),
    flags.switch("tags", "show each service's tags"),
)

NO_NODES = "No nodes match the given query - try expanding your search."
NO_SERVICES = "No services match the given query - try expanding your search."


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard catalog`."""
    verbs = {"datacenters": _run_datacenters, "nodes": _run_nodes, "services": _run_services}
    return dispatch(USAGE, verbs, argv, environ)


def _run_datacenters(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return call_agent(DATACENTERS, argv, environ, _datacenters)


def _run_nodes(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return call_agent(NODES, argv, environ, _nodes)


def _run_services(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return call_agent(SERVICES, argv, environ, _services)


def _datacenters(parsed: Parsed, agent: Agent) -> int:
    _no_arguments(parsed)
    with failing("Error listing datacenters"):
        found = agent.json("catalog/datacenters")
    for name in found if isinstance(found, list) else ():
        print(name)
    return 0


def _nodes(parsed: Parsed, agent: Agent) -> int:
    _no_arguments(parsed)
    given = [(name, parsed.text(name)) for name in ("near", "filter") if parsed.text(name)]
    query = given + _meta(parsed)
    service = parsed.text("service")
    with failing("Error listing nodes"):
        path = f"catalog/service/{service}" if service else "catalog/nodes"
        nodes = rows_of(agent.json(path, query))
    if not nodes:
        raise Failed(NO_NODES, code=0)
    detailed = parsed.switch("detailed")
    head = ["Node", "ID", "Address", "DC", *(["TaggedAddresses", "Meta"] if detailed else [])]
    rows = [_node_row(node, service=bool(service), detailed=detailed) for node in nodes]
    print(columns([head, *(list(row) for row in dict.fromkeys(rows))]))
    return 0


def _node_row(node: Mapping[str, object], *, service: bool, detailed: bool) -> tuple[str, ...]:
    """One line of the table; an ID is cut to eight characters unless all is wanted."""
    identity = str(node.get("ID") or "")
    cells = [str(node.get("Node")), identity if detailed else identity[:8]]
    cells += [str(node.get("Address")), str(node.get("Datacenter") or "")]
    if detailed:
        meta = node.get("NodeMeta" if service else "Meta")
        cells += [_pairs(node.get("TaggedAddresses")), _pairs(meta)]
    return tuple(cells)


def _services(parsed: Parsed, agent: Agent) -> int:
    _no_arguments(parsed)
    node = parsed.text("node")
    with failing("Error listing services"):
        if node:
            services = _of_node(agent.json(f"catalog/node/{node}"), node)
        else:
            services = _tags(agent.json("catalog/services", _meta(parsed)))
    if not services:
        raise Failed(NO_SERVICES, code=0)
    rows = [[name, ",".join(sorted(tags))] for name, tags in sorted(services.items())]
    print(columns(rows if parsed.switch("tags") else [[name] for name, _ in rows]))
    return 0


def _no_arguments(parsed: Parsed) -> None:
    if parsed.args:
        raise Failed(f"Too many arguments (expected 0, got {len(parsed.args)})")


def _of_node(answer: object, node: str) -> dict[str, list[str]]:
    """Services of one node, by name; tags of several instances together."""
    if not isinstance(answer, dict):
        raise Failed(f"Error listing services: no node {node!r}" if answer else NO_SERVICES, 0)
    services: dict[str, list[str]] = {}
    instances = answer.get("Services")
    for instance in instances.values() if isinstance(instances, dict) else ():
        tags = services.setdefault(str(instance.get("Service")), [])
        tags.extend(tag for tag in instance.get("Tags") or () if tag not in tags)
    return services


def _tags(answer: object) -> dict[str, list[str]]:
    items = answer if isinstance(answer, dict) else {}
    return {str(name): [str(tag) for tag in tags or ()] for name, tags in items.items()}


def _meta(parsed: Parsed) -> list[tuple[str, str]]:
    """-node-meta key=value as the query writes it, key:value."""
    found = []
    for word in parsed.values("node-meta"):
        key, equals, value = word.partition("=")
        if not equals:
            raise FlagError(
                f'invalid value "{word}" for flag -node-meta: missing "=" value in argument: {word}'
            )
        found.append(("node-meta", f"{key}:{value}"))
    return found


def _pairs(value: object) -> str:
    return ", ".join(f"{key}={word}" for key, word in sorted(texts_of(value).items()))
