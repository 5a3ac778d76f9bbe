"""Why a TLS handshake failed, or files do not load, in words for a log and for operators.

OpenSSL's reasons are names of its own ("TLSV13_ALERT_CERTIFICATE_REQUIRED"); what an operator can
act upon is said here, the rest is passed on in lower case. Only the standard library.
"""

from __future__ import annotations

import ssl

from callboard.pki.contexts import Material

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "HTTP_REQUEST": "it speaks plain HTTP, not TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: has it mutual TLS off?",
    "UNSUPPORTED_PROTOCOL": "it offers no version of TLS from 1.2 on",
    "CERTIFICATE_EXPIRED": "its certificate has expired since its session began",
    "NO_SHARED_CIPHER": "it offers none of our ciphers",
}
_ALERTS = {
    "UNKNOWN_CA": "it does not know the CA of our certificate",
    "BAD_CERTIFICATE": "it refuses our certificate",
    "CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "CERTIFICATE_REQUIRED": "it wants a certificate of us, and we showed none",
    "CERTIFICATE_EXPIRED": "to it our certificate has expired",
    "CERTIFICATE_REVOKED": "our certificate was revoked",
    "HANDSHAKE_FAILURE": "it refuses the handshake",
    "PROTOCOL_VERSION": "it speaks no version of TLS that we do",
}
_ALERT = "ALERT_"


def explain(problem: BaseException) -> str:
    """What went wrong with a TLS connection, from our end; never empty."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {problem.verify_message or problem.reason}"
    if isinstance(problem, ssl.SSLEOFError):
        return "closed by the other side in the middle of TLS"
    if isinstance(problem, ssl.SSLError) and problem.reason:
        _, alert, said = problem.reason.partition(_ALERT)
        if alert:
            return _ALERTS.get(said) or f"it says: {_spoken(said)}"
        return _REASONS.get(problem.reason) or f"tls: {_spoken(problem.reason)}"
    if isinstance(problem, ConnectionResetError):
        return "closed by the other side"
    return str(problem) or type(problem).__name__


def explain_files(problem: Exception, files: Material) -> str:
    """Why contexts cannot be made from a program's files; names those that are at fault."""
    named = ", ".join(map(str, files.files()))
    if isinstance(problem, ssl.SSLError):
        if problem.reason == "KEY_VALUES_MISMATCH":
            return f"{files.certificate} and {files.key} are no pair: the key is another's"
        if problem.reason in ("NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE"):
            return f"no certificate or revocation list in {files.authorities} or {files.revoked}"
        return f"{named}: {problem.reason or problem}"
    if isinstance(problem, FileNotFoundError):
        missing = [str(path) for path in files.files() if not path.exists()]
        return f"no file {', '.join(missing) or problem}"
    if isinstance(problem, OSError) and problem.filename is None:
        return f"{named}: {problem.strerror or problem}"  # of those that OpenSSL read
    return str(problem)


def _spoken(name: str) -> str:
    return name.lower().replace("_", " ")
