"""How a handshake ended, in words."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Literal

from cryptography import x509

ALERT = re.compile(r"^(?:SSLV3|TLSV1|TLSV13)_ALERT_(\w+)$")
"""OpenSSL's reasons for an alert that came."""

BY_VERIFICATION = {
    2: "unknown ca",
    9: "bad certificate",
    10: "certificate expired",
    18: "unknown ca",
    19: "unknown ca",
    20: "unknown ca",
    21: "unknown ca",
    23: "certificate revoked",
    26: "unsupported certificate",
}
"""The alert that OpenSSL sends by its verdict on a certificate (RFC 8446 section 6.2)."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """One connection's handshake."""

    completed: bool
    outcome: str
    """"completed", or what happened, in words."""
    alert: str = ""
    """The alert that ended it, as RFC 8446 names it, with spaces: "unknown ca"; "" when none."""
    alert_from: Literal["", "client", "server"] = ""
    server_name: str = ""
    """The host that the client named (SNI); "" when it named none."""
    version: str = ""
    """"TLSv1.3"; "" before it was agreed."""
    peer_certificate: x509.Certificate | None = None


def failed(problem: Exception, server_name: str, version: str) -> Handshake:
    """Say what an exception of `do_handshake` means."""
    reason = getattr(problem, "reason", None) or ""
    came = ALERT.match(reason)
    if came:
        alert = came[1].lower().replace("_", " ")
        said = f"the client refused: alert {alert}"
        return Handshake(False, said, alert, "client", server_name, version)
    sent = _sent(problem, reason, version)
    if sent:
        said = f"the server refused: {_words(problem)}: alert {sent}"
        return Handshake(False, said, sent, "server", server_name, version)
    return Handshake(False, _words(problem), server_name=server_name, version=version)


def _sent(problem: Exception, reason: str, version: str) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return BY_VERIFICATION.get(problem.verify_code, "certificate unknown")
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "certificate required" if version == "TLSv1.3" else "handshake failure"
    if reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"):
        return "protocol version"
    return "handshake failure" if reason == "NO_SHARED_CIPHER" else ""


def _words(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return problem.verify_message
    if isinstance(problem, TimeoutError):
        return "the client fell silent"
    if isinstance(problem, ssl.SSLEOFError | ConnectionError):
        return "the client went away"
    reason = getattr(problem, "reason", None)
    return reason.lower().replace("_", " ") if reason else str(problem)
