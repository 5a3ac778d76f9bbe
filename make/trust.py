"""Take the stack's CA certificate to certs/out/ca.pem, and say which one it is.

Browsers and tools on this machine are told to trust it by `callboard tls trust` (see certs/).
Only the standard library: `make up` runs it on a machine that has nothing else.
"""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import sys
from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "certs" / "out"
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate, as browsers show it: AB:CD:…"""
    first = pem[pem.index(BEGIN) : pem.index(END) + len(END)]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest().hex(":").upper()


def take(body: bytes) -> str:
    """Write the CA certificate to certs/out/ca.pem; the lines that tell so."""
    OUT.mkdir(exist_ok=True)
    (OUT / "ca.pem").write_bytes(body)
    return f"CA of this stack: certs/out/ca.pem, SHA-256 {fingerprint(body.decode())}"


def main() -> int:
    """Take it from the issuer's container."""
    argv = ["docker", "compose", "exec", "-T", "issuer", "cat", "/data/ca.pem"]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=30)
    if done.returncode:
        print(f"no CA certificate: {done.stderr.decode().strip()}", file=sys.stderr)
        return 1
    print(take(done.stdout))
    return 0


if __name__ == "__main__":
    sys.exit(main())
