"""What all client verbs share: Consul's flags and variables, one connection, one way to fail.

A verb declares its flags with `client_flags`, and is run by `call`, which turns a bad command line,
an unreachable agent and an agent's refusal into Consul's texts and exit codes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from callboard.chassis import flags
from callboard.chassis.flags import Flag, FlagSet, Kind, Parsed
from callboard.chassis.verbs import Failed, UsageError, call, dispatch
from callboard.client.addresses import DEFAULT_ADDRESS, DEFAULT_TLS_ADDRESS, parse_addresses
from callboard.client.errors import ClientError
from callboard.client.transport import Response, TlsOptions, Transport

__all__ = ["Failed", "UsageError", "call", "dispatch"]
"""Of `callboard.chassis.verbs`, for the verbs that import the rest from here."""

CLIENT_FLAGS: tuple[Flag, ...] = (
    flags.text("http-addr", "address of the agent, or several separated by commas"),
    flags.text("token", "ACL token"),
    flags.text("token-file", "file that holds the ACL token"),
    flags.text("ca-file", "certificate authorities that https is verified by"),
    flags.text("ca-path", "directory of certificate authorities"),
    flags.text("client-cert", "certificate shown to the agent"),
    flags.text("client-key", "its key"),
    flags.text("tls-server-name", "name the agent's certificate must have"),
)
"""Flags of every verb that speaks with an agent."""

SERVER_FLAGS: tuple[Flag, ...] = (
    flags.text("datacenter", "datacenter to ask; the agent's own"),
    Flag("stale", Kind.OPTIONAL, "let any server answer", None),
)
"""Flags of verbs whose answer comes from the servers."""


@contextmanager
def failing(what: str, code: int = 1) -> Iterator[None]:
    """Turn a failed call into `<what>: <reason>`, and the exit code."""
    try:
        yield
    except ClientError as problem:
        raise Failed(f"{what}: {problem}", code) from problem


def flag_set(usage: str, *own: Flag, server: bool = True) -> FlagSet:
    """The flags of one verb: its own and those of all."""
    return FlagSet(usage, (*own, *CLIENT_FLAGS, *(SERVER_FLAGS if server else ())))


class Agent:
    """The agent a verb speaks with: a connection made at the first request."""

    def __init__(self, parsed: Parsed, environ: Mapping[str, str]) -> None:
        self._transport = transport(parsed, environ)
        self._query: list[tuple[str, str]] = []
        if "datacenter" in parsed.known:
            if parsed.text("datacenter"):
                self._query.append(("dc", parsed.text("datacenter")))
            if parsed.switch("stale"):
                self._query.append(("stale", ""))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def get(
        self, path: str, query: Sequence[tuple[str, str]] = (), *, accept: tuple[int, ...] = (200,)
    ) -> Response:
        """GET /v1/`path`. Raises ApiError unless the status is accepted, Unreachable."""
        response = self._transport.request("GET", _escaped(path), [*query, *self._query])
        return response.expect(*accept)

    def write(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Response:
        """PUT or DELETE /v1/`path`. Raises ApiError, Unreachable."""
        dc = [pair for pair in self._query if pair[0] == "dc"]
        return self._transport.request(method, _escaped(path), [*query, *dc], body).expect()

    def json(self, path: str, query: Sequence[tuple[str, str]] = ()) -> object:
        """The JSON of GET /v1/`path`."""
        return parsed_json(self.get(path, query))


def _escaped(path: str) -> str:
    return "/v1/" + quote(path, safe="/$&+,:;=@")


def parsed_json(response: Response) -> object:
    """The JSON of an answer. Raises Failed when it is none."""
    try:
        return json.loads(response.body)
    except ValueError as problem:
        raise Failed(f"the agent's answer is not JSON: {problem}") from problem


def call_agent(
    flag_set: FlagSet,
    argv: Sequence[str],
    environ: Mapping[str, str],
    verb: Callable[[Parsed, Agent], int],
) -> int:
    """`call`, for a verb that speaks with an agent."""

    def with_agent(parsed: Parsed) -> int:
        agent = Agent(parsed, environ)
        try:
            return verb(parsed, agent)
        finally:
            agent.close()

    return call(flag_set, argv, with_agent)


def transport(parsed: Parsed, environ: Mapping[str, str]) -> Transport:
    """A transport by flags, then CALLBOARD_*, then CONSUL_* variables. Raises Failed."""

    def variable(name: str) -> str:
        return environ.get(f"CALLBOARD_{name}") or environ.get(f"CONSUL_{name}", "")

    def option(flag: str, name: str) -> str:
        return parsed.text(flag) or variable(name)

    tls = TlsOptions(
        ca_file=option("ca-file", "CACERT"),
        ca_path=option("ca-path", "CAPATH"),
        certificate_file=option("client-cert", "CLIENT_CERT"),
        key_file=option("client-key", "CLIENT_KEY"),
        server_name=option("tls-server-name", "TLS_SERVER_NAME"),
        verify=variable("HTTP_SSL_VERIFY").lower() not in ("false", "0", "f"),
    )
    secure = variable("HTTP_SSL").lower() in ("true", "1", "t")
    default = DEFAULT_TLS_ADDRESS if secure else DEFAULT_ADDRESS
    try:
        addresses = parse_addresses(option("http-addr", "HTTP_ADDR") or default, tls=secure)
    except ValueError as problem:
        raise Failed(f"Error connecting to Consul agent: {problem}") from problem
    return Transport(
        addresses,
        token=_token(parsed, variable),
        basic_auth=variable("HTTP_AUTH"),
        tls=tls,
    )


def _token(parsed: Parsed, variable: Callable[[str], str]) -> str:
    """The flag, the flag's file, the variable, the variable's file: the first that is given."""
    for text, path in (
        (parsed.text("token"), parsed.text("token-file")),
        (variable("HTTP_TOKEN"), variable("HTTP_TOKEN_FILE")),
    ):
        if text:
            return text
        if path:
            try:
                return Path(path).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as problem:
                raise Failed(
                    f"Error connecting to Consul agent: Error loading token file: {problem}"
                ) from problem
    return ""


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows with their cells under each other, two spaces between: Consul's tables."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def rows_of(value: object) -> list[Mapping[str, object]]:
    """A JSON array of objects (null is an empty one). Raises Failed for anything else."""
    items = value if value is not None else []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Failed("the agent's answer has an unexpected form")
    return list(items)


def texts_of(value: object) -> dict[str, str]:
    """A JSON object as texts (null is an empty one)."""
    items = value if isinstance(value, dict) else {}
    return {str(key): str(word) for key, word in items.items()}
