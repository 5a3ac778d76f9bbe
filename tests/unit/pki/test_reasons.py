"""OpenSSL's reasons in words: what an operator can act upon, and never nothing."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.pki.contexts import Material
from callboard.pki.reasons import explain, explain_files

FILES = Material(Path("a.pem"), Path("a.key"), Path("ca.pem"), Path("crl.pem"))


def failed(reason: str) -> ssl.SSLError:
    problem = ssl.SSLError(1, f"[SSL: {reason}] (_ssl.c:1006)")
    problem.reason = reason
    return problem


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "it showed no certificate"),
        ("HTTP_REQUEST", "it speaks plain HTTP, not TLS"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS: has it mutual TLS off?"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "it wants a certificate of us, and we showed none"),
        ("TLSV1_ALERT_UNKNOWN_CA", "it does not know the CA of our certificate"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "our certificate was revoked"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "to it our certificate has expired"),
        ("TLSV1_ALERT_NO_RENEGOTIATION", "it says: no renegotiation"),
        ("BAD_DECOMPRESSION", "tls: bad decompression"),
    ],
)
def test_reasons_are_told(reason: str, text: str) -> None:
    assert explain(failed(reason)) == text


def test_a_certificate_that_is_not_accepted_is_told_with_why() -> None:
    problem = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    problem.verify_message = "certificate has expired"
    assert explain(problem) == "its certificate is not accepted: certificate has expired"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "closed by the other side"),
        (ssl.SSLEOFError(8, "EOF"), "closed by the other side in the middle of TLS"),
        (TimeoutError(), "TimeoutError"),
        (ConnectionAbortedError("too slow"), "too slow"),
    ],
)
def test_other_ends_are_told(problem: Exception, text: str) -> None:
    assert explain(problem) == text


@given(st.text())
def test_any_reason_is_told_somehow(reason: str) -> None:
    assert explain(failed(reason))


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (failed("KEY_VALUES_MISMATCH"), "a.pem and a.key are no pair: the key is another's"),
        (failed("NO_START_LINE"), "no certificate or revocation list in ca.pem or crl.pem"),
        (failed("EE_KEY_TOO_SMALL"), "a.pem, a.key, ca.pem, crl.pem: EE_KEY_TOO_SMALL"),
        (FileNotFoundError(2, "gone"), "no file a.pem, a.key, ca.pem, crl.pem"),
        (PermissionError(13, "denied"), "a.pem, a.key, ca.pem, crl.pem: denied"),
        (PermissionError(13, "denied", "a.key"), "[Errno 13] denied: 'a.key'"),
        (ValueError("as it was said"), "as it was said"),
    ],
)  # fmt: skip
def test_files_that_do_not_load_are_named(problem: Exception, text: str) -> None:
    assert explain_files(problem, FILES) == text
