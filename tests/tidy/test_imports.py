"""Who may import whom: programs from libraries only, pure packages from next to nothing."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.harness.sources import Module, programs_code, tracked

PURE_PACKAGES = (
    "callboard.raft",
    "callboard.swim",
    "callboard.catalog",
    "callboard.agent.state",
    "callboard.gateway.ice",
    "callboard.gateway.stream",
)
PURE_MODULES = (
    "callboard.dns.names",
    "callboard.dns.records",
    "callboard.dns.answers",
    "callboard.dns.wire",
    "callboard.dns.cache",
    "callboard.dns.packed",
    "callboard.dns.settings",
    "callboard.chassis.proxied",
    "callboard.events.attempts",
    "callboard.events.course",
    "callboard.events.encoder",
    "callboard.events.errors",
    "callboard.events.lines",
    "callboard.events.ordering",
    "callboard.events.parser",
    "callboard.events.targets",
    "callboard.chassis.findings",
    "callboard.chassis.guards",
    "callboard.gateway.allowance",
    "callboard.gateway.announcing.events",
    "callboard.gateway.announcing.hubs",
    "callboard.gateway.commands.findings",
    "callboard.gateway.commands.ice_findings",
    "callboard.gateway.fanout.header",
    "callboard.gateway.fanout.numbering",
    "callboard.gateway.fanout.pacing",
    "callboard.gateway.fanout.runs",
    "callboard.gateway.film",
    "callboard.gateway.http.ancestors",
    "callboard.gateway.janus.acts",
    "callboard.gateway.janus.errors",
    "callboard.gateway.janus.gate",
    "callboard.gateway.janus.messages",
    "callboard.gateway.janus.mountpoints",
    "callboard.gateway.janus.plugin",
    "callboard.gateway.janus.protocol",
    "callboard.gateway.janus.registry",
    "callboard.gateway.live",
    "callboard.gateway.sdp",
    "callboard.gateway.session.asker",
    "callboard.gateway.session.clocks",
    "callboard.gateway.session.downlink",
    "callboard.gateway.session.feedback",
    "callboard.gateway.session.reception",
    "callboard.gateway.session.renditions",
    "callboard.gateway.snapshots.frames",
    "callboard.gateway.sources.directory",
    "callboard.gateway.sources.holding",
    "callboard.gateway.sources.instances",
    "callboard.gateway.sources.picture",
    "callboard.gateway.sources.reporting",
    "callboard.gateway.sources.rtp",
    "callboard.gateway.sources.senders",
    "callboard.hub.commands.findings",
    "callboard.media.clock",
    "callboard.media.leases",
    "callboard.media.rtp",
    "callboard.media.streams",
    "callboard.sidecar.course",
    "callboard.sidecar.leases",
    "callboard.feed.copy",
    "callboard.feed.wire",
    "callboard.hub.catalog.naming",
    "callboard.hub.catalog.ring",
    "callboard.hub.catalog.stepwise",
    "callboard.hub.catalog.topics",
    "callboard.hub.catalog.touched",
    "callboard.hub.catalog.values",
    "callboard.hub.event",
    "callboard.hub.cursor",
    "callboard.hub.matching",
    "callboard.hub.auth.origins",
    "callboard.hub.auth.rates",
    "callboard.hub.mercure",
)
PURE_MAY_IMPORT = {
    "__future__", "abc", "array", "base64", "binascii", "bisect", "collections", "contextlib",
    "copy", "dataclasses", "datetime", "enum", "functools", "hashlib", "heapq", "hmac",
    "ipaddress", "itertools", "json", "logging", "math", "operator", "random", "re", "string",
    "struct", "sys", "types", "typing", "unicodedata", "zlib",
    "cryptography", "google_crc32c", "msgpack", "msgspec", "urlpattern",
}  # fmt: skip
PURE_MAY_NAME = (
    "aioice.stun", "aiortc.codecs.", "aiortc.rtcrtpparameters.", "aiortc.rtp.", "aiortc.sdp.",
    "urllib.parse.", "uuid.UUID", "http.HTTPStatus", "email.utils.parsedate_to_datetime",
)  # fmt: skip
"""Parts of packages whose other parts are not pure."""
SEAMS = ("callboard.agent.ports.", "callboard.hub.ports.", "callboard.gateway.ports.")
HTTP_EDGE_ONLY = {"fastapi", "pydantic", "starlette"}
"""In folders named http; starlette's types also where `serve` adapts to it."""


def _libraries() -> set[str]:
    return {Path(path).parts[2] for path in tracked() if path.startswith("libs/callboard/")}


def _programs() -> set[str]:
    return {Path(path).parts[2] for path in tracked() if path.startswith("services/callboard/")}


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _pure() -> list[Module]:
    return [m for m in programs_code() if _is_in(m.dotted, (*PURE_PACKAGES, *PURE_MODULES))]


def test_no_name_is_both_a_library_and_a_program() -> None:
    assert not _libraries() & _programs()


def test_libraries_import_no_program() -> None:
    wrong = [
        f"{module.path}:{line} {name}"
        for module in programs_code()
        if module.path.startswith("libs/")
        for line, name in module.imports()
        if name.startswith("callboard.") and name.split(".")[1] in _programs()
    ]
    assert not wrong


def test_programs_import_no_other_program() -> None:
    wrong = [
        f"{module.path}:{line} {name}"
        for module in programs_code()
        if module.path.startswith("services/")
        for line, name in module.imports()
        if name.startswith("callboard.")
        and name.split(".")[1] in _programs() - {module.dotted.split(".")[1]}
    ]
    assert not wrong


def test_nothing_that_is_shipped_imports_the_tests() -> None:
    wrong = [
        f"{module.path}:{line} {name}"
        for module in programs_code()
        for line, name in module.imports()
        if name.split(".")[0] in ("tests", "make")
    ]
    assert not wrong


def test_pure_packages_import_from_the_allow_list_only() -> None:
    """No socket, event loop, clock, randomness, environment, thread: they are arguments."""
    wrong = []
    for module in _pure():
        for line, name in module.imports():
            top = name.split(".")[0]
            pure = _is_in(name, (*PURE_PACKAGES, *PURE_MODULES))
            # ports.py holds the protocols between the agent's parts: types, and no code
            seam = name.startswith(SEAMS)
            allowed = top in PURE_MAY_IMPORT or name.startswith(PURE_MAY_NAME)
            if not (pure or seam if top == "callboard" else allowed):
                wrong.append(f"{module.path}:{line} {name}")
    assert not wrong


def test_pure_packages_use_random_as_a_type_only() -> None:
    wrong = []
    for module in _pure():
        for node, called in module.calls():
            if called.split(".")[0] == "random" or called in ("Random", "SystemRandom"):
                wrong.append(f"{module.path}:{node.lineno} {called}")
        wrong += [
            f"{module.path}:{line} {name}"
            for line, name in module.imports()
            if name.startswith("random.") and name != "random.Random"
        ]
    assert not wrong


def test_pure_packages_read_no_clock_by_datetime() -> None:
    wrong = [
        f"{module.path}:{node.lineno} {called}"
        for module in _pure()
        for node, called in module.calls()
        if called.endswith((".now", ".utcnow", ".today")) and "datetime" in called
    ]
    assert not wrong


def test_fastapi_and_pydantic_stay_at_the_http_edge() -> None:
    wrong = [
        f"{module.path}:{line} {name}"
        for module in programs_code()
        if "http" not in Path(module.path).parts
        for line, name in module.imports()
        if name.split(".")[0] in HTTP_EDGE_ONLY
        and not (module.dotted.startswith("callboard.serve") and name.startswith("starlette."))
    ]
    assert not wrong


def test_uvicorn_is_touched_in_serve_only() -> None:
    wrong = [
        f"{module.path}:{line} {name}"
        for module in programs_code()
        if not module.dotted.startswith("callboard.serve")
        for line, name in module.imports()
        if name.split(".")[0] == "uvicorn"
    ]
    assert not wrong


def test_imports_stand_at_the_top_of_a_file() -> None:
    """Inside a function only with a `noqa: PLC0415` that says why."""
    hidden = [
        f"{module.path}:{inner.lineno}"
        for module in programs_code()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
        and "PLC0415 - " not in module.text.splitlines()[inner.lineno - 1]
    ]
    assert not hidden
