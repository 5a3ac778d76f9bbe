"""What each client says of each fault of the TLS server for tests: the table of the documentation,
and what the tests expect."""

from __future__ import annotations

from dataclasses import dataclass

from tests.harness.tls_clients import CLIENTS

from callboard.testing.credentials import Condition
from callboard.testing.faults import FaultName


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, or a right answer, and what becomes of a GET."""

    fault: FaultName
    says: str
    """A regular expression for what stands in a client's exception; `words` tell it to people."""
    outcomes: tuple[str, str, str, str, str]
    """Of urllib, requests, httpx, aiohttp the status or exception (or one|other), and of curl the
    status or exit code."""
    alert: str = ""
    """What `handshakes[0].alert` is; asyncio, and so aiohttp, never sends one."""
    curl_says: str = ""
    shows: Condition | None = None
    """The certificate that the client shows."""
    revocation: bool = False
    """Whether the client reads the revocation list."""
    words: str = ""
    note: str = ""

    @property
    def label(self) -> str:
        """Name of a test."""
        return "-".join(filter(None, (self.fault, self.note))).replace(" ", "_")

    def expected(self, client: str) -> tuple[str, str]:
        """Regular expressions of the beginning, a status or an exception, and of its text."""
        cell = self.outcomes[list(CLIENTS).index(client)]
        if client == "curl" and int(cell) < 100:
            return f"CurlError: exit {cell}", self.curl_says or self.says
        return f"(?:{cell})", self.says


CERTIFICATE = ("URLError", "SSLError", "ConnectError", "ClientConnectorCertificateError", "60")
"""How a client refuses a server's certificate."""
ALERT = ("SSLError", "SSLError", "ReadError", "ClientOSError", "56")
"""How TLS 1.3 tells that the client's certificate was refused: at the first read."""
OK = ("200",) * 5
GONE = "reset by peer|forcibly closed|closed connection|[Dd]isconnected"

ROWS: tuple[Row, ...] = (
    Row("expired", "certificate has expired", CERTIFICATE, "certificate expired"),
    Row("not yet valid", "certificate is not yet valid", CERTIFICATE, "bad certificate"),
    Row(
        "wrong host",
        "certificate is not valid for 'localhost'",
        CERTIFICATE,
        "bad certificate",
        "no alternative certificate subject name matches target host name",
    ),
    Row("self-signed", "self-signed certificate", CERTIFICATE, "unknown ca"),
    Row(
        "untrusted root", "self-signed certificate in certificate chain", CERTIFICATE, "unknown ca"
    ),
    Row("incomplete chain", "unable to get local issuer certificate", CERTIFICATE, "unknown ca"),
    Row("revoked", "", OK, note="the client reads no list"),
    Row(
        "revoked",
        "certificate revoked",
        ("URLError", "200", "ConnectError", "ClientConnectorCertificateError", "60"),
        "certificate revoked",
        revocation=True,
        note="the client reads the list",
    ),
    Row(
        "client certificate required",
        "alert certificate required",
        ALERT,
        "certificate required",
        note="the client shows none",
    ),
    Row(
        "client certificate required",
        "alert unknown ca",
        ALERT,
        "unknown ca",
        shows="untrusted root",
        note="the client shows one of a wrong CA",
    ),
    Row(
        "client certificate required",
        "alert certificate expired",
        ALERT,
        "certificate expired",
        shows="expired",
        note="the client shows an expired one",
    ),
    Row(
        "client certificate required",
        "alert certificate revoked",
        ALERT,
        "certificate revoked",
        shows="revoked",
        note="the client shows a revoked one",
    ),
    Row("client certificate required", "", OK, shows="good", note="the client shows a good one"),
    Row(
        "client certificate of a wrong CA",
        "alert unknown ca",
        ALERT,
        "unknown ca",
        shows="good",
        note="the server trusts another CA than the client's",
    ),
    Row("client certificate missing", "", ("400",) * 5, note="the client shows none"),
    Row("client certificate missing", "", OK, shows="good", note="the client shows a good one"),
    Row("TLS 1.2 only", "", OK),
    Row(
        "plain HTTP",
        "(?i)wrong.version.number|record layer failure",
        ("URLError", "SSLError", "ConnectError", "ClientConnectorSSLError", "35"),
        words="wrong version number",
    ),
    Row(
        "stalled handshake",
        "[Tt]imed out|timeout",
        ("URLError", "ReadTimeout", "ConnectTimeout", "ConnectionTimeoutError", "28"),
        words="timed out",
    ),
    Row(
        "reset handshake",
        GONE,
        ("URLError", "ConnectionError", "ConnectError", "ClientConnectorError", "35"),
        words="reset by peer",
    ),
    Row(
        "reset",
        GONE,
        (
            "RemoteDisconnected|ConnectionResetError",
            "ConnectionError",
            "RemoteProtocolError|ReadError",
            "ClientOSError",
            "56",
        ),
        words="reset by peer, or disconnected",
    ),
    Row(
        "half a body",
        r"IncompleteRead\(14 bytes read, 14 more expected\)|14 of 28 bytes|14 bytes, expected 28",
        (
            "IncompleteRead",
            "ChunkedEncodingError",
            "RemoteProtocolError",
            "ClientPayloadError",
            "18",
        ),
        words="14 of 28 bytes",
        curl_says="14 bytes remaining",
    ),
    Row(
        "slow body",
        "[Tt]imed out|Timeout",
        ("TimeoutError", "ConnectionError", "ReadTimeout", "SocketTimeoutError", "28"),
        words="timed out",
    ),
)

TIMED = frozenset({"stalled handshake", "slow body"})
"""Faults that a client notices by a time limit."""

COLUMNS = ("`fault(…)`", "in words", *CLIENTS, "`handshakes[0].alert`")


def as_markdown() -> str:
    """The table as the documentation has it."""
    lines = []
    for row in ROWS:
        cells = [
            cell if cell.isdigit() else " or ".join(f"`{name}`" for name in cell.split("|"))
            for cell in row.outcomes[:4]
        ]
        last = row.outcomes[4]
        cells.append(last if int(last) >= 100 else f"exit {last}")
        name = f'`"{row.fault}"`' + (f": {row.note}" if row.note else "")
        lines.append(f"| {name} | {row.words or row.says} | {' | '.join(cells)} | {row.alert} |\n")
    head = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
    return head + "".join(lines)
