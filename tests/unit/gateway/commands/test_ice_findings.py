"""What `callboard gateway doctor` makes of the ICE servers that it was told of, and asked."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.chassis.findings import Finding
from callboard.gateway.commands import ice_findings
from callboard.gateway.commands.ice_findings import Fate, IceServer, Tried, parse_servers
from callboard.gateway.http.ice_servers import IceServers

NOW = 1_800_000_000.0


def server(url: str, username: str = "9999999999:viewer", credential: str = "x") -> IceServer:
    told = f'<{url}>; rel="ice-server"; username="{username}"; credential="{credential}"'
    (found,) = parse_servers(told)
    return found


UDP = server("turn:relay.example?transport=udp")
TLS = server("turns:relay.example?transport=tcp")
STUN = server("stun:[2001:db8::1]:19302")


def texts(found: Iterable[Finding]) -> list[str]:
    return [f"{each.grade.value} {each.subject}: {each.text}" for each in found]


def judged(*tried: Tried) -> list[str]:
    return texts(ice_findings.judge_tried(tried, NOW))


# -------------------------------------------------------------------------------- reading


def test_what_a_gateway_tells_is_read() -> None:
    urls = ["stun:stun.example", "turn:192.0.2.1:3479?transport=tcp", "turns:[2001:db8::2]"]
    field = ", ".join(value for _, value in IceServers(urls, "secret").links(NOW))
    stun, turn, turns = parse_servers(field)
    assert stun == IceServer("stun:stun.example", "stun", "stun.example", 3478, "udp")
    assert (turn.scheme, turn.where) == ("turn", "TCP at 192.0.2.1:3479")
    assert (turns.is_secured, turns.where) == (True, "TCP at [2001:db8::2]:5349")
    assert turn.username == f"{NOW + 12 * 3600:.0f}:viewer" and turn.credential
    assert all(each.can_be_asked for each in (stun, turn, turns))


def test_other_links_are_left_out_and_quotes_may_hide_commas() -> None:
    field = (
        '</whep/a/1/sse>; rel="urn:ietf:params:whep:ext:core:server-sent-events", '
        "<stun:a.example>;REL=ice-server,"
        '<turn:b.example> ; rel="next ice-server"; username="a,<\\"b>"; credential="c;d"; rel="x"'
    )
    first, second = parse_servers(field)
    assert first.url == "stun:a.example"
    assert (second.url, second.username, second.credential) == ("turn:b.example", 'a,<"b>', "c;d")


@given(st.text(alphabet='<>;,="\\ relic-svtun:1', max_size=60))
def test_no_link_field_is_an_error(field: str) -> None:
    servers = parse_servers(f"<turn:a>; rel=ice-server{field}")
    list(ice_findings.judge_links(204, "/whep/a", servers))


def test_servers_that_cannot_be_asked_are_told() -> None:
    servers = [
        server("turn:a.example", username=""),
        server("turns:a.example?transport=udp"),
        server("https://a.example"),
        server("turn:a.example:99999"),
        UDP,
    ]
    assert [each.can_be_asked for each in servers] == [False, False, False, False, True]
    assert texts(ice_findings.judge_links(204, "/whep/a", servers)) == [
        "bad turn: turn:a.example: no username and credential are told with it",
        "note turn: turns:a.example?transport=udp: not tried: TLS over UDP is not spoken here, "
        "nor by all browsers",
        "bad turn: https://a.example is no URL of a STUN or TURN server",
        "bad turn: turn:a.example:99999 is no URL of a STUN or TURN server",
    ]


def test_without_servers_nothing_is_found_and_options_that_do_not_come_through_are_a_note() -> None:
    assert not texts(ice_findings.judge_links(204, "/whep/a", []))
    assert not judged()
    assert texts(ice_findings.judge_links(405, "/whep/a", [])) == [
        "note turn: OPTIONS /whep/a: 405: which ICE servers there are is not told before an offer"
    ]


# -------------------------------------------------------------------------------- judging


def test_a_server_that_answers_is_good() -> None:
    assert judged(
        Tried(UDP, Fate.ANSWERED, ("192.0.2.7", 49160), 12.3),
        Tried(STUN, Fate.ANSWERED, ("2001:db8::9", 5), 3.0),
    ) == [
        "ok turn: turn:relay.example?transport=udp relays: 192.0.2.7:49160 after 12 ms",
        "ok stun: stun:[2001:db8::1]:19302 answers in 3 ms: we are [2001:db8::9]:5 to it",
    ]


@pytest.mark.parametrize(
    ("tried", "wanted"),
    [
        (
            Tried(UDP, Fate.SILENT),
            "no answer by UDP at relay.example:3478: a firewall, or a server that does not run",
        ),
        (
            Tried(TLS, Fate.REFUSED),
            "nobody listens by TCP at relay.example:5349: does it run, and is the port published?",
        ),
        (
            Tried(UDP, Fate.UNRESOLVED, why="Name or service not known"),
            "relay.example does not resolve: Name or service not known",
        ),
        (
            Tried(UDP, Fate.UNREACHABLE, why="Network is unreachable"),
            "no way to UDP at relay.example:3478: Network is unreachable",
        ),
        (
            Tried(TLS, Fate.NO_TLS, why="it does not speak TLS"),
            "no TLS by TCP at relay.example:5349: it does not speak TLS",
        ),
        (
            Tried(TLS, Fate.STRANGER, why="it was closed"),
            "what is there by TCP at relay.example:5349 is no TURN server: it was closed",
        ),
    ],
    ids=lambda value: value.fate.name if isinstance(value, Tried) else "",
)
def test_what_does_not_answer_is_bad_and_where_is_said(tried: Tried, wanted: str) -> None:
    assert judged(tried) == [f"bad turn: {tried.server.url}: {wanted}"]


@pytest.mark.parametrize(
    ("code", "why", "help"),
    [
        (20, "unable to get local issuer certificate", ": browsers need its CA (callboard tls"),
        (62, "Hostname mismatch", ": does it name relay.example?"),
        (10, "certificate has expired", ""),
    ],
)
def test_certificates_that_are_not_accepted_are_told_with_the_reason(
    code: int, why: str, help: str
) -> None:
    (line,) = judged(Tried(TLS, Fate.UNTRUSTED, code=code, why=why))
    prefix = f"bad turn: {TLS.url}: its TLS certificate is not accepted: {why}"
    assert line.startswith(prefix + help)
    assert help or line == prefix


def test_errors_are_told_with_what_they_mean() -> None:
    def denied(code: int, why: str, asked: IceServer = UDP) -> str:
        (line,) = judged(Tried(asked, Fate.DENIED, code=code, why=why))
        prefix = f"bad turn: {UDP.url}: "
        assert line.startswith(prefix)
        return line.removeprefix(prefix)

    assert denied(401, "Unauthorized") == (
        "401 Unauthorized: is its secret (static-auth-secret) that of -turn-secret, and is its "
        "clock right?"
    )
    assert denied(486, "Allocation Quota Reached") == (
        "486 Allocation Quota Reached: its quota is used up (coturn's user-quota, total-quota)"
    )
    assert denied(508, "") == ("508: it has no port or memory left (coturn's min-port, max-port)")
    assert denied(500, "Server\nError") == "500 Server Error"
    ended = server(UDP.url, username=f"{NOW - 90:.0f}:viewer")
    assert denied(401, "", ended) == (
        "401: the credentials ended 90 s ago by this clock: is the gateway's slow?"
    )
