"""testssl.sh 3.2, a scanner of TLS, over every TLS listener of the programs that stand.

Nothing above LOW but what is so on purpose: certificates of 30 days (`cert_expirationStatus`,
`cert_notAfter`) without an address of a CRL or of OCSP (`cert_revocation`: the list comes by file),
and BREACH where files are public.
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from make.programs import FILESERVER, GATEWAY, HUB, NAMESERVER, SIDECAR, runnable
from tests.harness.bootstrapped import agent
from tests.harness.capabilities import has, require
from tests.harness.certified import CA, material
from tests.harness.eventually import SLOW
from tests.harness.lone import running
from tests.harness.process_driver import own_network
from tests.unit.sidecar.sidecar_process import running as sidecar

from callboard.chassis.listeners import LISTENERS, Listener, Security, default_port
from callboard.pki.contexts import Material
from callboard.pki.roles import names_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIDECAR_PORT = default_port(SIDECAR, "control")
ON_PURPOSE = {"cert_expirationStatus", "cert_notAfter", "cert_revocation", "BREACH"}
ABOVE_LOW = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}
IN_ORDER = {
    *("SSLv2", "SSLv3", "TLS1_2", "TLS1_3"),
    *("cipherlist_NULL", "cipherlist_aNULL", "cipherlist_STRONG_FS"),
    *("cert_trust", "cert_chain_of_trust"),
}
"""What must be found, and be OK: a scan that reached nothing finds nothing either."""
HOLES = {"heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_client_renego", "CRIME_TLS"}
SCAN_S = 300.0 * SLOW

CI = os.environ.get("BUDGET") == "ci"
SHORT = ("-p", "-s", "-S")
"""Versions, kinds of ciphers, what the server says of itself and its certificate."""
FULL = (*SHORT, "-P", "-U", *(("-f",) if CI else ()))
"""Preferences and the known holes too. All listeners have the contexts of `callboard.pki.contexts`,
so without BUDGET=ci it is one of them: a full scan is a minute of CPU."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One running testssl.sh."""

    command: tuple[str, ...]
    process: subprocess.Popen[bytes]
    found: Path
    log: Path

    def again(self) -> Scan:
        """The same scan anew, alone: on a busy machine the scanner's own time limits cut answers
        short, and it calls what it did not see a finding."""
        self.found.unlink()
        return launched(self.command, self.found, self.log)

    def findings(self) -> dict[str, tuple[str, str]]:
        """Wait for its end; severity and text by id."""
        self.process.wait(SCAN_S)
        assert self.found.exists(), self.log.read_text(errors="replace")
        read = json.loads(self.found.read_text())
        return {one["id"]: (one["severity"], one["finding"]) for one in read}


def listeners() -> list[Listener]:
    """The rows of the table with TLS whose programs stand."""
    kinds = (Security.MUTUAL_TLS, Security.SERVER_TLS)
    stand = {"agent", *runnable()}
    return [row for row in LISTENERS if row.security in kinds and row.program in stand]


def is_full(row: Listener) -> bool:
    return CI or row.program == FILESERVER


def scan(place: str, row: Listener, person: Material, directory: Path) -> Scan:
    """Start the scanner on one listener, with a person's certificate where one is asked for."""
    name = directory / f"{row.program}-{row.name}"
    both = directory / "person.pem"
    both.write_bytes(person.certificate.read_bytes() + person.key.read_bytes())
    web = ("-h",) if row.name == "https" else ()
    command = [
        *("testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none"),
        *("--ip", place, "--add-ca", str(person.authorities), "--overwrite"),
        *(("--mtls", str(both)) if row.security is Security.MUTUAL_TLS else ()),
        *("--jsonfile", f"{name}.json", *((*FULL, *web) if is_full(row) else SHORT)),
        f"localhost:{row.port}",
    ]
    return launched(tuple(command), name.with_suffix(".json"), name.with_suffix(".txt"))


def launched(command: tuple[str, ...], found: Path, log: Path) -> Scan:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=found.parent, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    return Scan(command, process, found, log)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Listener, Scan]]:
    """A scan of each listener, all at once; the programs run as long."""
    require("linux", "testssl")
    directory = tmp_path_factory.mktemp("scanned")
    place = f"{own_network()}.1"
    authority = CA("scanned CA", constraints=None)

    def files(role: str, node: str) -> list[str]:
        names = names_for(role, node, addresses=[ipaddress.ip_address(place)])
        made = material(directory / node, authority.leaf(names), authority)
        flags = zip(("cert", "key", "ca", "crl"), made.files(), strict=True)
        return [f"-{flag}-file={path}" for flag, path in flags]

    started: dict[Listener, Scan] = {}
    with ExitStack() as programs:
        programs.enter_context(agent(place, directory, "-dns-port=-1", *files("server", "one")))
        more = {
            NAMESERVER: ["-port=8600", f"-data-dir={directory / 'names'}"],
            FILESERVER: ["-page"],
            HUB: [f"-data-dir={directory / 'history'}"],
            GATEWAY: ["-pattern"],
        }
        for number, (program, own) in enumerate(more.items(), start=9091):
            health = f"{place}:{number}"
            argv = [program, f"-bind={place}", f"-catalog={place}", f"-health={health}", *own]
            log = directory / f"{program}.log"
            lone = programs.enter_context(
                running([*argv, *files(program, program)], log, directory)
            )
            lone.wait_for(f"http://{health}/readyz")
        if has("python3-gi"):
            flags = files(SIDECAR, SIDECAR)
            programs.enter_context(sidecar(directory, *flags, host=place, port=SIDECAR_PORT))
        person = material(
            directory / "person", authority.leaf(names_for("operator", "")), authority
        )
        try:
            for row in listeners():
                started[row] = scan(place, row, person, directory)
            yield started
        finally:
            for one in started.values():
                one.process.kill()
                one.process.wait(15.0)


def faults(scan: Scan, row: Listener) -> dict[str, tuple[str, str]]:
    """What is not in order: must be OK and is not, or is above LOW."""
    found = scan.findings()
    wanted = IN_ORDER | HOLES if is_full(row) else IN_ORDER
    told = {name: found.get(name, ("missing", "")) for name in wanted}
    missed = {name: one for name, one in told.items() if "not applicable" not in one[1]}
    return {name: told for name, told in missed.items() if told[0] != "OK"} | {
        name: told
        for name, told in found.items()
        if told[0] in ABOVE_LOW and name not in ON_PURPOSE
    }


@pytest.mark.parametrize("row", listeners(), ids=lambda row: f"{row.program}-{row.name}")
def test_scanner_finds_nothing_above_low(scans: dict[Listener, Scan], row: Listener) -> None:
    if faults(scans[row], row):
        for other in scans.values():
            other.process.wait(SCAN_S)
        scans[row] = scans[row].again()
        assert faults(scans[row], row) == {}, scans[row].log.read_text(errors="replace")
