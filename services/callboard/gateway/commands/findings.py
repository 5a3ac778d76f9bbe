"""What `callboard gateway doctor` makes of what it saw. Pure: answers and times are arguments."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from callboard.chassis.findings import Finding, Grade

LIVE, ON_DEMAND = "live", "on demand"
_COUNTED = re.compile(r"(callboard_gateway_\w+)(?:\{([^}]*)\})? ([0-9.eE+]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Listed:
    """A stream as GET /streams lists it."""

    name: str
    state: str
    """live, on demand, offline, not playable."""
    reason: str = ""
    codecs: tuple[tuple[str, str], ...] = ()
    """Of its tracks: kind and codec."""
    viewers: int = 0
    bits_per_second: int = 0

    @property
    def can_be_watched(self) -> bool:
        """Whether a viewer is let in."""
        return self.state in (LIVE, ON_DEMAND)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of an answer (RFC 8839, 5.1; RFC 6544, 4.5)."""

    transport: str
    """udp or tcp (passive)."""
    host: str
    port: int
    kind: str = "host"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport} {host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is of the machine itself."""
        return ipaddress.ip_address(self.host).is_loopback


@dataclass(frozen=True, slots=True)
class IceAnswer:
    """What a description says of ICE."""

    ufrag: str
    password: str
    candidates: tuple[Candidate, ...]


class Reach(Enum):
    """What came of a Binding request to a candidate."""

    ANSWERED = "answered"
    SILENT = "no answer"
    REFUSED = "nobody listens there"
    STRANGER = "somebody else answers there"
    """Without the password that the gateway gave us."""


@dataclass(frozen=True, slots=True)
class Reached:
    """One candidate that was asked."""

    candidate: Candidate
    reach: Reach
    took_ms: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of watching. Times are seconds since the answer."""

    connected_s: float | None = None
    """ICE and DTLS were through."""
    state: str = ""
    """Of the connection, when it was given up."""
    first_s: Mapping[str, float | None] | None = None
    """When the first picture or sound of each kind was decoded."""
    packets: Mapping[str, int] | None = None
    """Of RTP, by kind."""


# ------------------------------------------------------------------------------- reading


def parse_streams(body: bytes) -> list[Listed]:
    """An answer to GET /streams. Raises ValueError."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(told, list):
        raise ValueError("it is no list of streams")
    return [_listed(each) for each in told]


def _listed(told: object) -> Listed:
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        raise ValueError("it is no list of streams")
    tracks = told.get("tracks")
    codecs = tuple(
        (str(track.get("kind")), str(track.get("codec")))
        for track in (tracks if isinstance(tracks, list) else ())
        if isinstance(track, dict)
    )
    return Listed(
        told["name"],
        str(told.get("state")),
        str(told.get("reason") or ""),
        tuple(dict.fromkeys(codecs)),
        _count(told.get("viewers")),
        _count(told.get("bits_per_second")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def parse_ice(description: str) -> IceAnswer:
    """A description of ours. What has no address is left out. Raises ValueError if there are no
    credentials."""
    ufrag, password = (_attribute(description, name) for name in ("ice-ufrag", "ice-pwd"))
    if not ufrag or not password:
        raise ValueError("it has no ICE credentials")
    lines = re.findall(r"^a=candidate:([^\r\n]{1,400})", description, re.M)
    found = filter(None, map(_candidate, lines))
    return IceAnswer(ufrag, password, tuple(dict.fromkeys(found)))


def _attribute(description: str, name: str) -> str:
    found = re.search(rf"^a={name}:([!-~]{{1,256}})", description, re.M)
    return found[1] if found else ""


def _candidate(line: str) -> Candidate | None:
    words = line.split()
    if len(words) < 8 or words[6] != "typ" or words[2].lower() not in ("udp", "tcp"):
        return None
    try:
        host, port = str(ipaddress.ip_address(words[4])), int(words[5])
    except ValueError:
        return None
    return Candidate(words[2].lower(), host, port, words[7]) if 0 < port < 1 << 16 else None


# ------------------------------------------------------------------------------- judging


def judge_streams(streams: Sequence[Listed], wanted: Sequence[str]) -> Iterator[Finding]:
    """Which streams there are; those of `wanted` must be there, and some one anyway."""
    for stream in streams:
        named = stream.name in wanted
        yield _judge_stream(stream, Grade.BAD if named else Grade.NOTE)
    there = {stream.name for stream in streams}
    for name in wanted:
        if name not in there:
            yield Finding(Grade.BAD, "stream", f"{name}: there is none of that name")
    if not streams:
        text = "there is none: a sidecar of the catalog, -pattern, -streams FILE or WHIP gives one"
        yield Finding(Grade.BAD, "stream", text)
    elif not wanted and not any(stream.can_be_watched for stream in streams):
        yield Finding(Grade.BAD, "stream", "none can be watched now")


def _judge_stream(stream: Listed, otherwise: Grade) -> Finding:
    codecs = " and ".join(codec for _, codec in stream.codecs) or "no track"
    if stream.state == LIVE:
        rate = f"{stream.bits_per_second / 1000:.0f} kbit/s"
        text = f"{stream.name}: live, {codecs}, {rate}, viewers: {stream.viewers}"
        return Finding(Grade.GOOD, "stream", text)
    if stream.state == ON_DEMAND:
        text = f"{stream.name}: on demand, {codecs}: it starts with its first viewer"
        return Finding(Grade.GOOD, "stream", text)
    reason = stream.reason or "no reason is told"
    return Finding(otherwise, "stream", f"{stream.name}: {stream.state}: {reason}")


def judge_refusal(name: str, status: int, text: str) -> Finding:
    """A POST to /whep/NAME that was not taken."""
    said = " ".join(text.split())[:300]
    if status == 401:
        return Finding(Grade.BAD, "token", f"{said or 'a token is needed'}: -whep-token FILE")
    return Finding(Grade.BAD, "answer", f"{name}: {status} {said}".rstrip())


def judge_candidates(answer: IceAnswer, by_loopback: bool) -> Iterator[Finding]:
    """Where the answer says that media is; `by_loopback`: the gateway was asked by localhost or a
    loopback address."""
    if not answer.candidates:
        text = "the answer has none"
        if not by_loopback:
            text += ": who asks from elsewhere is told no loopback address: set ADVERTISE_IPS"
        yield Finding(Grade.BAD, "candidate", text)
        return
    listed = ", ".join(str(each) for each in answer.candidates)
    yield Finding(Grade.GOOD, "candidate", listed)
    if all(each.is_loopback for each in answer.candidates):
        text = (
            "all are loopback addresses: Firefox, which has none of its own, and other machines "
            "cannot watch. Set ADVERTISE_IPS to an address of this machine"
        )
        yield Finding(Grade.NOTE, "candidate", text)


def judge_reached(reached: Sequence[Reached]) -> Iterator[Finding]:
    """Can the candidates be reached from here. One that cannot is bad if none of its transport
    can; TCP is for who has no UDP, so its lack is bad only if UDP lacks, too."""
    good = {each.candidate.transport for each in reached if each.reach is Reach.ANSWERED}
    for each in reached:
        transport = each.candidate.transport
        where = f"{each.candidate}"
        if each.reach is Reach.ANSWERED:
            yield Finding(Grade.GOOD, "reach", f"{where} answers in {each.took_ms:.0f} ms")
            continue
        why = f" ({each.why})" if each.why else ""
        text = f"{where}: {each.reach.value}{why}"
        is_spare = transport in good or (transport == "tcp" and "udp" in good)
        if not is_spare:
            text += f": {_REACH_HELP[each.reach]}"
        yield Finding(Grade.NOTE if is_spare else Grade.BAD, "reach", text)


_REACH_HELP = {
    Reach.SILENT: "a firewall, or a port that is not published; does ADVERTISE_IPS name this "
    "gateway?",
    Reach.REFUSED: "is the port published, and -media-bind an address that is reached from here?",
    Reach.STRANGER: "does ADVERTISE_IPS name another gateway?",
    Reach.ANSWERED: "",
}


def judge_played(played: Played, within_s: float) -> Iterator[Finding]:
    """DTLS, and the first picture and sound."""
    if played.connected_s is None:
        text = f"ICE and DTLS were not through in {within_s:g} s: {played.state or 'no answer'}"
        yield Finding(Grade.BAD, "media", text)
        return
    text = f"ICE and DTLS are through after {played.connected_s * 1000:.0f} ms"
    yield Finding(Grade.GOOD, "media", text)
    packets = played.packets or {}
    for kind, first_s in (played.first_s or {}).items():
        first = "picture" if kind == "video" else "sound"
        if first_s is not None:
            text = f"the first {first} after {first_s * 1000:.0f} ms"
            yield Finding(Grade.GOOD, kind, text)
        elif packets.get(kind):
            text = f"{packets[kind]} packets came in {within_s:g} s, but no {first} could be shown"
            if kind == "video":
                text += ": no keyframe, and the source answers no request for one"
            yield Finding(Grade.BAD, kind, text)
        else:
            yield Finding(Grade.BAD, kind, f"nothing came in {within_s:g} s")


def judge_advertised(
    words: Mapping[str, Sequence[str] | str], candidates: Sequence[Candidate]
) -> Iterator[Finding]:
    """What ADVERTISE_IPS says: the addresses of each word, or why it has none; `stun:` words have
    an empty list."""
    hosts = {each.host for each in candidates}
    mapped = any(each.kind == "srflx" for each in candidates)
    for word, found in words.items():
        if isinstance(found, str):
            yield Finding(Grade.BAD, "advertise", f"{word} does not resolve: {found}")
        elif word.startswith("stun:"):
            text = "its answer is a candidate" if mapped else "no candidate is from it: no NAT, or"
            text += "" if mapped else " the server does not answer the gateway"
            yield Finding(Grade.GOOD if mapped else Grade.NOTE, "advertise", f"{word}: {text}")
        elif hosts and not hosts & set(found):
            text = f"{word} is {', '.join(found)} here, and no candidate is: another gateway's?"
            yield Finding(Grade.NOTE, "advertise", text)
        else:
            is_same = list(found) == [word]
            yield Finding(
                Grade.GOOD, "advertise", word if is_same else f"{word} is {', '.join(found)}"
            )


def judge_buffer(rmem_max: int, wanted: int) -> Finding:
    """The largest receive buffer that the kernel gives (net.core.rmem_max), in bytes."""
    if rmem_max >= wanted:
        return Finding(Grade.GOOD, "buffer", f"net.core.rmem_max is {rmem_max}")
    text = (
        f"net.core.rmem_max is {rmem_max}: bursts of RTP may be lost. sysctl -w "
        f"net.core.rmem_max={wanted}, or CAP_NET_ADMIN for the gateway"
    )
    return Finding(Grade.NOTE, "buffer", text)


def judge_readiness(status: int, text: str) -> Iterator[Finding]:
    """An answer of /readyz."""
    lines = [line.strip() for line in text.splitlines() if line.strip()][:16]
    if status != 200:
        yield Finding(Grade.BAD, "ready", "; ".join(lines) or f"{status}")
        return
    remarks = [line for line in lines if line != "ok"]
    yield from (Finding(Grade.NOTE, "ready", line) for line in remarks)
    if not remarks:
        yield Finding(Grade.GOOD, "ready", "ok")


def judge_metrics(text: str) -> Iterator[Finding]:
    """What /metrics has counted, since the gateway started."""
    counted: dict[str, dict[str, float]] = {}
    for name, labels, value in _COUNTED.findall(text):
        try:
            counted.setdefault(name, {})[labels] = float(value)
        except ValueError:
            continue
    published = sum(counted.get(_PUBLISHED, {}).values())
    dropped = _reasons(counted.get(_DROPPED, {}))
    if dropped:
        text = f"{published:.0f} media events were taken, and none of these: {dropped}"
        yield Finding(Grade.NOTE, "hub", text)
    elif published:
        yield Finding(Grade.GOOD, "hub", f"{published:.0f} media events were taken")
    for name, subject, meaning in _NOTABLE:
        reasons = _reasons(counted.get(name, {}))
        if reasons:
            yield Finding(Grade.NOTE, subject, f"{meaning}: {reasons}")


_PUBLISHED = "callboard_gateway_events_published_total"
_DROPPED = "callboard_gateway_events_dropped_total"
_NOTABLE = (
    (
        "callboard_gateway_refused_packets_total",
        "rtp",
        "packets of sources were refused (-rtp-from, one sender a port)",
    ),
    (
        "callboard_gateway_received_lost_total",
        "rtp",
        "packets of sources did not come (network, receive buffer)",
    ),
    (
        "callboard_gateway_media_unsent_total",
        "media",
        "packets found no room in the media port's socket",
    ),
    (
        "callboard_gateway_refused_sessions_total",
        "viewers",
        "viewers were one too many (-max-viewers)",
    ),
)
METRICS_READ = frozenset({_PUBLISHED, _DROPPED, *(name for name, _, _ in _NOTABLE)})


def _reasons(counts: Mapping[str, float]) -> str:
    """Those that are not zero, as `reason 3`."""
    told = []
    for labels, count in counts.items():
        if count:
            label = " ".join(re.findall(r'"([^"]*)"', labels))
            told.append(f"{label} {count:.0f}".strip())
    return ", ".join(told)
