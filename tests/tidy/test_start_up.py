"""What a program imports before it has a certificate: starting must stay quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

STARTS = (
    "callboard.agent.service",
    "callboard.nameserver.service",
    "callboard.client.transport",
    "callboard.chassis.identity",
    "callboard.chassis.standing",
)
SLOW = ("callboard.pki.certificates", "callboard.pki.verification", "cryptography.x509")


@pytest.mark.parametrize("module", STARTS)
def test_a_plain_start_imports_no_certificates(module: str) -> None:
    code = f"import sys, {module}\nprint([name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
