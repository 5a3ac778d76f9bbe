"""testssl.sh 3.2 over the file server: what a scanner of TLS finds.

Claim: nothing above LOW but what is so on purpose: certificates of 30 days without CRL or OCSP
address (a revocation list comes by file), and BREACH (files compressed beforehand are public).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.static import servers

ON_PURPOSE = {"cert_expirationStatus", "cert_notAfter", "cert_revocation", "BREACH"}
ABOVE_LOW = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}
TIMEOUT_S = 600


def main() -> int:
    """Run, print, answer 1 for a finding above LOW."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=True)
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    try:
        ours, _ = servers(folder)
        with ours:
            subprocess.run(
                [
                    "testssl", "--quiet", "--color", "0", "--add-ca", str(folder / "ca.crt"),
                    "--jsonfile", str(folder / "found.json"),
                    f"https://localhost:{ours.port}/1k.html",
                ],
                stdout=subprocess.DEVNULL, check=False, timeout=TIMEOUT_S,
            )  # fmt: skip
        found = json.loads((folder / "found.json").read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    grade = next((one["finding"] for one in found if one["id"] == "overall_grade"), "none")
    checked = sum(one["severity"] in ("OK", "INFO") for one in found)
    bad = [one for one in found if one["severity"] in ABOVE_LOW and one["id"] not in ON_PURPOSE]
    for one in bad:
        print(f"{one['severity']} {one['id']}: {one['finding']}")
    holds = not bad and checked > 100
    print(
        f"testssl.sh: grade {grade}, {checked} findings in order, {len(bad)} above LOW (bar 0): "
        f"{'holds' if holds else 'MISSED'}"
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
