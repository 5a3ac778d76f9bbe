"""The issuer and everybody's certificates over months, changes of the CA, and a revocation.

The client is the name server's certificate in a test's hands. Clocks are moved by faketime.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from make.programs import CERTIFIED, FILESERVER, HEALTH_PORT, HTTPS_PORT, ISSUER
from tests.harness.asking import ask, http
from tests.harness.capabilities import require
from tests.harness.catalog import put_key, wait_for_leader
from tests.harness.eventually import eventually_sync
from tests.harness.process_driver import ProcessStack
from tests.harness.stack import CLIENT, NAMES, NAMESERVER, SERVERS, Plan, Stack
from tests.harness.tls_lines import (
    DOT_PORT,
    SECURE_PORT,
    Line,
    Visitor,
    context_of,
    places,
    visit,
    visitor,
)

from callboard.pki import reading

pytestmark = pytest.mark.only("processes")

DAY_S = 86_400.0
STEP_S = DAY_S / 2
STEPS = 180
GIVEN = ("certificate.pem", "ca.pem", "crl.pem")
POLL_S = 10.0
"""Programs look at their files this often (`callboard.pki.live`)."""
OVERLAP_S = 120.0
"""Of a change of CA (`-overlap`)."""

Fresh = Callable[[Plan], Stack]


@pytest.fixture
def clocked(fresh: Fresh) -> ProcessStack:
    """A stack whose clocks can be moved."""
    require("faketime")
    made = fresh(Plan(clocks=True))
    assert isinstance(made, ProcessStack)
    wait_for_leader(made)
    return made


def addresses(stack: Stack) -> dict[str, str]:
    return {name: stack.inside_address(name) for name in NAMES}


def identity(stack: ProcessStack, name: str = NAMESERVER) -> Path:
    return stack.data(name) / "identity"


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a program's certificate and revocation list, by its own clock; in days."""

    certificate: float
    revocation_list: float


def left(stack: Stack, service: str) -> Left:
    text = http("GET", stack.url(service, "/metrics", HEALTH_PORT)).body.decode()
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if "_days_left " in line)
    return Left(
        float(figures["callboard_certificate_days_left"]),
        float(figures["callboard_revocation_list_days_left"]),
    )


def move(stack: ProcessStack, offset_s: float, *services: str) -> dict[str, Left]:
    """Move clocks, and wait until the programs show that theirs has moved; what they show."""
    for name in services:
        stack.clock(name, offset_s)
    shown: dict[str, Left] = {}
    for name in services:
        if name != ISSUER:
            found = eventually_sync(partial(shows, stack, name, offset_s), 15.0)
            assert found is not None
            shown[name] = found
    return shown


def shows(stack: ProcessStack, name: str, offset_s: float) -> Left | None:
    """What a program has left, once that is by the moved clock."""
    held = reading.read_certificate(identity(stack, name) / "certificate.pem")
    expected = (held.not_valid_after_utc.timestamp() - time.time() - offset_s) / DAY_S
    found = left(stack, name)
    return found if abs(found.certificate - expected) < 0.01 else None


def has_taken(stack: ProcessStack, name: str) -> bool:
    """Whether a program holds what the issuer has put out."""
    return all(
        (identity(stack, name) / file).read_bytes() == (stack.exchange(name) / file).read_bytes()
        for file in GIVEN
    )


def take_in(stack: ProcessStack) -> None:
    """Have every program take what lies in its exchange, as it would within POLL_S."""
    for name in CERTIFIED:
        if not has_taken(stack, name):
            stack.reload(name)
            eventually_sync(partial(has_taken, stack, name), 15.0)


def visit_all(stack: ProcessStack, of: Path | None = None) -> None:
    """Visit every TLS port on a new connection, by the test's own clock."""
    for name, port in places(addresses(stack)):
        visit(of or identity(stack), addresses(stack), name, port)


def serials(stack: ProcessStack) -> dict[str, int]:
    return {
        name: reading.read_certificate(identity(stack, name) / "certificate.pem").serial_number
        for name in CERTIFIED
    }


# Months ---------------------------------------------------------------------------------------


@pytest.mark.timeout(1200)
def test_ninety_days_pass_without_a_failed_request(clocked: ProcessStack, tmp_path: Path) -> None:
    """A new connection to every TLS port each half day, and a write by each agent."""
    certificates = {name: {serial} for name, serial in serials(clocked).items()}
    lists = set()
    offset_file = tmp_path / "visitor.clock"
    offset_file.write_text("+0\n")
    with visitor(identity(clocked), addresses(clocked), offset_file) as client:
        for step in range(1, STEPS + 1):
            offset_s = step * STEP_S
            offset_file.write_text(f"{offset_s:+.0f}\n")
            # the issuer's clock is behind: what it signs is valid for the others at once
            clocked.clock(ISSUER, offset_s - STEP_S)
            for found in move(clocked, offset_s, *CERTIFIED).values():
                assert found.certificate > 8
                assert found.revocation_list > 2
            take_in(clocked)
            assert client.visit(time.time() + offset_s - 60) == [], f"day {step / 2}"
            for name, serial in serials(clocked).items():
                certificates[name].add(serial)
            lists.add((identity(clocked) / "crl.pem").read_bytes())
    assert {name: len(found) for name, found in certificates.items()} == dict.fromkeys(CERTIFIED, 5)
    assert len(lists) >= 90 / 3.5 - 2


@pytest.mark.timeout(400)
def test_a_stack_that_was_off_for_a_year_starts_by_itself(
    clocked: ProcessStack, tmp_path: Path
) -> None:
    before = serials(clocked)
    for name in NAMES:
        clocked.stop(name)
        clocked.clock(name, 365 * DAY_S)
    clocked.start(*NAMES)
    clocked.wait_ready()
    assert not set(before.values()) & set(serials(clocked).values())
    with late(clocked, tmp_path, 365 * DAY_S) as client:
        assert client.visit(time.time() + 365 * DAY_S - 60) == []


@contextmanager
def late(stack: ProcessStack, directory: Path, offset_s: float) -> Iterator[Visitor]:
    offset_file = directory / "visitor.clock"
    offset_file.write_text(f"{offset_s:+.0f}\n")
    with visitor(identity(stack), addresses(stack), offset_file) as client:
        yield client


@pytest.mark.timeout(400)
def test_without_an_issuer_the_stack_goes_on_with_what_it_has_and_is_whole_once_it_is_back(
    clocked: ProcessStack, tmp_path: Path
) -> None:
    clocked.stop(ISSUER)
    move(clocked, 9 * DAY_S, *CERTIFIED)  # the list has ended: nobody new is let in
    with late(clocked, tmp_path, 9 * DAY_S) as client:
        refused = client.visit(time.time() + 9 * DAY_S - 60)
        assert len(refused) == len(places(addresses(clocked)))
        assert all("CRL has expired" in one for one in refused)
        leader = wait_for_leader(clocked)
        for server in SERVERS:
            assert put_key(clocked, server, "without", b"an issuer")
        assert ask(clocked.addr(NAMESERVER, 8600), "consul.service.consul").answer
        clocked.stop(NAMESERVER)
        clocked.start(NAMESERVER)  # with a list that has ended, and its copy of the catalog
        clocked.wait_ready(NAMESERVER)
        assert "no newer one came" in clocked.logs(NAMESERVER)
        assert ask(clocked.addr(NAMESERVER, 8600), "consul.service.consul").answer
        told = "the revocation list was not renewed"
        eventually_sync(lambda: all(told in clocked.logs(name) for name in SERVERS), 30.0)
        clocked.clock(ISSUER, 9 * DAY_S)
        clocked.start(ISSUER)
        eventually_sync(lambda: client.visit(time.time() + 9 * DAY_S - 60) == [], 4 * POLL_S)
    assert wait_for_leader(clocked) == leader, "it cost no election"


@pytest.mark.timeout(400)
def test_renewal_keeps_the_connections_that_stand(clocked: ProcessStack) -> None:
    context = context_of(identity(clocked))
    where = addresses(clocked)
    lines = [
        Line.open(context, where[name], port, name)
        for name, port in ((SERVERS[0], SECURE_PORT), (NAMESERVER, DOT_PORT))
    ]
    first = serials(clocked)
    with asked_all_the_while(lines) as failures:
        move(clocked, 20.5 * DAY_S, ISSUER, *CERTIFIED)
        eventually_sync(lambda: not set(first.values()) & set(serials(clocked).values()), 30.0)
        eventually_sync(lambda: all(has_taken(clocked, name) for name in CERTIFIED), 30.0)
        asked = [line.asked for line in lines]
        eventually_sync(
            lambda: all(line.asked > before + 5 for line, before in zip(lines, asked, strict=True)),
            30.0,
        )
    assert failures == []
    for line in lines:
        line.close()


@contextmanager
def asked_all_the_while(lines: list[Line]) -> Iterator[list[str]]:
    """Ask on every line, again and again, until the block ends; what failed."""
    failures: list[str] = []
    ended = threading.Event()

    def go(line: Line) -> None:
        try:
            while not ended.wait(0.2):
                line.ask()
        except Exception as problem:
            failures.append(repr(problem))

    threads = [threading.Thread(target=go, args=(line,), daemon=True) for line in lines]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        ended.set()
        for thread in threads:
            thread.join(20.0)


# A change of the CA ---------------------------------------------------------------------------


def authorities(stack: ProcessStack, name: str) -> int:
    return len(reading.read_certificates(identity(stack, name) / "ca.pem"))


@contextmanager
def requests(stack: ProcessStack) -> Iterator[list[str]]:
    """Clients of every kind until the block ends: new TLS connections, writes, DNS; failures."""
    failures: list[str] = []
    ended = threading.Event()

    def write(name: str) -> None:
        assert put_key(stack, name, f"change/{name}", b"written")

    def resolve() -> None:
        assert ask(stack.addr(NAMESERVER, 8600), "consul.service.consul").answer

    clients: dict[str, Callable[[], None]] = {
        **{f"write {name}": partial(write, name) for name in (*SERVERS, CLIENT)},
        "resolve": resolve,
        **{
            f"{name}:{port}": partial(visit, identity(stack), addresses(stack), name, port)
            for name, port in places(addresses(stack))
        },
    }
    done = dict.fromkeys(clients, 0)

    def go(name: str, request: Callable[[], None]) -> None:
        while not ended.wait(0.05):
            try:
                request()
            except Exception as problem:
                failures.append(f"{name}: {problem!r}")
            done[name] += 1

    threads = [
        threading.Thread(target=go, args=item, daemon=True, name=item[0])
        for item in clients.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield failures
        before = dict(done)
        eventually_sync(lambda: all(done[name] > before[name] for name in clients), 30.0)
    finally:
        ended.set()
        for thread in threads:
            thread.join(30.0)


@pytest.mark.timeout(400)
def test_a_change_of_the_ca_costs_no_request_and_afterwards_the_old_one_is_refused(
    clocked: ProcessStack, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for file in (*GIVEN, "key.pem"):
        (old / file).write_bytes((identity(clocked) / file).read_bytes())
    visit_all(clocked, old)
    first = serials(clocked)
    directory = clocked.data(ISSUER)
    leader = wait_for_leader(clocked)
    with requests(clocked) as failures:
        made = clocked.exec(ISSUER, ["callboard", "issuer", "rotate", f"-data-dir={directory}"])
        assert made.code == 0, made
        eventually_sync(lambda: all(authorities(clocked, n) == 2 for n in CERTIFIED), 3 * POLL_S)
        assert serials(clocked) == first, "the old CA signs until everybody trusts the new one"
        clocked.clock(ISSUER, OVERLAP_S + 10)
        eventually_sync(
            lambda: not set(first.values()) & set(serials(clocked).values()), 3 * POLL_S
        )
        assert all(authorities(clocked, name) == 2 for name in CERTIFIED)
        clocked.clock(ISSUER, 2 * OVERLAP_S + 20)
        eventually_sync(lambda: all(authorities(clocked, n) == 1 for n in CERTIFIED), 3 * POLL_S)
    assert failures == []
    assert wait_for_leader(clocked) == leader
    assert not (directory / "1").exists(), "the old key is gone"
    for name, port in places(addresses(clocked)):
        with pytest.raises(ssl.SSLCertVerificationError):
            Line.open(context_of(old), addresses(clocked)[name], port, name)
    assert reading.read_certificate(identity(clocked) / "certificate.pem").issuer != (
        reading.read_certificate(old / "certificate.pem").issuer
    )
    (old / "ca.pem").write_bytes((identity(clocked) / "ca.pem").read_bytes())
    (old / "crl.pem").write_bytes((identity(clocked) / "crl.pem").read_bytes())
    for name in SERVERS:
        with pytest.raises(OSError, match=r"(?i)unknown.ca|eof|reset"):
            visit(old, addresses(clocked), name, SECURE_PORT)


# Revocation -----------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_revoked_program_is_shut_out_within_the_poll_time_and_comes_back_with_a_new_key(
    stack: Stack,
) -> None:
    assert isinstance(stack, ProcessStack)
    lost = FILESERVER
    where = addresses(stack)
    visit(identity(stack, lost), where, SERVERS[0], SECURE_PORT)
    thief = context_of(identity(stack, lost))
    authority = max(stack.data(ISSUER).glob("*/ca.pem"))
    command = ["callboard", "tls", "revoke", f"-ca={authority}"]
    done = stack.exec(ISSUER, [*command, str(identity(stack, lost) / "certificate.pem")])
    assert done.code == 0, done
    for name in SERVERS:
        eventually_sync(partial(is_refused, thief, where[name], name), 2 * POLL_S)
    eventually_sync(lambda: "is revoked" in ready_page(stack), 10.0)
    visit(identity(stack, NAMESERVER), where, SERVERS[0], SECURE_PORT)

    stack.stop(lost)
    (identity(stack, lost) / "key.pem").unlink()
    stack.start(lost)
    stack.wait_ready(lost)
    visit(identity(stack, lost), where, SERVERS[0], SECURE_PORT)
    visit(identity(stack, NAMESERVER), where, lost, HTTPS_PORT)
    assert "is revoked" not in ready_page(stack)
    assert is_refused(thief, where[SERVERS[0]], SERVERS[0])


def ready_page(stack: Stack) -> str:
    return http("GET", stack.url(ISSUER, "/readyz", HEALTH_PORT)).body.decode()


def is_refused(context: ssl.SSLContext, address: str, name: str) -> bool:
    """Whether an agent's https port turns a certificate away, by the alert that says so."""
    try:
        line = Line.open(context, address, SECURE_PORT, name)
    except ssl.SSLError as problem:
        return "revoked" in str(problem).lower()
    try:
        line.ask()
    except ssl.SSLError as problem:
        return "revoked" in str(problem).lower()
    finally:
        line.close()
    return False
