"""What is relied on of aiortc's and pylibsrtp's private parts: each call, and what it does.

A new version of either that changes one of these fails here, and says where.
"""

from __future__ import annotations

import asyncio
import datetime
import inspect
import random
import re
from collections.abc import AsyncIterator, Callable

import aiortc
import pylibsrtp
import pytest
from aiortc.rtcdtlstransport import (
    SRTP_PROFILES,
    RTCCertificate,
    RTCDtlsTransport,
    State,
)
from OpenSSL import SSL
from pylibsrtp import Policy, Session, ffi  # type: ignore[attr-defined] # untyped there
from tests.harness.eventually import eventually

from callboard.gateway.aiortc_private import (
    DATAGRAM_BYTES_MAX,
    PACKET_BYTES_MAX,
    SSRCS_MAX,
    WAITING_MAX,
    Certificate,
    Certificates,
    Ciphers,
    DtlsServer,
    Forged,
    Replayed,
    datagrams,
)

WITHIN_S = 20.0
RTP = bytes([0x80, 96, 0, 1]) + bytes(4) + b"SSRC" + b"payload"
RTCP = bytes([0x80, 201, 0, 1]) + b"SSRC"
KEY = bytes(range(44))


class Client:
    """A client of DTLS, by pyOpenSSL's public calls, and the flights that it sends."""

    def __init__(self, mtu: int = DATAGRAM_BYTES_MAX, padding: int = 0) -> None:
        self.certificate = RTCCertificate.generateCertificate()
        context = self.certificate._create_ssl_context(SRTP_PROFILES)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        if padding:  # an extension as long as post-quantum key shares are
            context.set_alpn_protos([b"x" * 200 for _ in range(padding // 200)])
        self.ssl = SSL.Connection(context)
        self.ssl.set_connect_state()
        self.ssl.set_ciphertext_mtu(mtu)
        self.done = False
        self.ended = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate."""
        first = self.certificate.getFingerprints()[0]
        return f"{first.algorithm} {first.value}"

    def take(self, datagram: bytes) -> None:
        """From the server."""
        self.ssl.bio_write(datagram)
        self.go_on()

    def go_on(self) -> None:
        """As far as it goes without more of the server."""
        try:
            if self.done:
                self.ssl.recv(1500)
            else:
                self.ssl.do_handshake()
                self.done = True
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.WantReadError:
            pass

    def flight(self) -> list[bytes]:
        """What it has to say, record by record."""
        try:
            said = self.ssl.bio_read(1 << 16)
        except SSL.Error:
            return []
        return records(said)

    def session(self, direction: int) -> Session:
        """Its SRTP, one way, after the handshake (RFC 5764, 4.2)."""
        secret = self.ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * len(KEY))
        at = 0 if direction == Policy.SSRC_ANY_OUTBOUND else 1
        key, salt = secret[32 * at :][:32], secret[64 + 12 * at :][:12]
        return session(direction, key + salt)


def records(said: bytes) -> list[bytes]:
    """Take a flight apart."""
    found = []
    while said:
        end = 13 + int.from_bytes(said[11:13], "big")
        found.append(said[:end])
        said = said[end:]
    return found


Mangle = Callable[[list[bytes]], list[bytes]]


async def joined(client: Client, server: DtlsServer, out: list[bytes], mangle: Mangle) -> Ciphers:
    """Carry flights between the two until the server has its ciphers."""
    accepting = asyncio.ensure_future(server.accept([client.fingerprint]))
    client.go_on()
    while not accepting.done():
        for record in mangle(client.flight()):
            server.feed(record)
        await asyncio.sleep(0.001)
        for datagram in out:
            assert len(datagram) <= DATAGRAM_BYTES_MAX
            client.take(datagram)
        out.clear()
    return accepting.result()


def as_it_is(flight: list[bytes]) -> list[bytes]:
    """Nothing happens on the way."""
    return flight


@pytest.fixture
async def server() -> AsyncIterator[tuple[DtlsServer, list[bytes]]]:
    """A server, and what it sends."""
    out: list[bytes] = []
    made = DtlsServer(Certificate.generateCertificate(), out.append)
    yield made, out
    made.close()


Served = tuple[DtlsServer, list[bytes]]


# ------------------------------------------------------------------ what is overridden and called


def test_version_is_the_one_whose_source_was_read() -> None:
    assert aiortc.__version__.startswith("1.16.")


@pytest.mark.parametrize(
    ("owner", "name", "parameters", "is_coroutine"),
    [
        (RTCCertificate, "_create_ssl_context", ["self", "srtp_profiles"], False),
        (RTCDtlsTransport, "_validate_peer_identity", ["self", "remoteParameters"], False),
        (RTCDtlsTransport, "_write_ssl", ["self"], True),
        (RTCDtlsTransport, "_do_handshake", ["self"], True),
        (RTCDtlsTransport, "_set_role", ["self", "role"], False),
        (RTCDtlsTransport, "_set_state", ["self", "state"], False),
        (RTCDtlsTransport, "start", ["self", "remoteParameters"], True),
    ],
)
def test_call_has_the_shape_that_is_overridden(
    owner: type, name: str, parameters: list[str], is_coroutine: bool
) -> None:
    function = getattr(owner, name)
    assert list(inspect.signature(function).parameters) == parameters
    assert inspect.iscoroutinefunction(function) is is_coroutine


def test_new_transport_has_the_attributes_that_are_read(server: Served) -> None:
    dtls, _ = server
    assert dtls._state is State.NEW
    assert dtls._role == "server"
    for name in ("_ssl", "_task", "_tx_srtp", "_rx_srtp"):
        assert getattr(dtls, name) is None


def test_transport_wants_three_names_of_its_ice_transport(server: Served) -> None:
    dtls, _ = server
    source = inspect.getsource(RTCDtlsTransport)
    used = set(re.findall(r"self\.transport\.(\w+)", source))
    assert used == {"role", "_recv", "_send"}
    assert all(hasattr(dtls.transport, name) for name in used)


def test_states_are_these() -> None:
    assert [state.name for state in State] == ["NEW", "CONNECTING", "CONNECTED", "CLOSED", "FAILED"]


def test_srtp_profiles_are_offered_best_first() -> None:
    assert [profile.openssl_profile for profile in SRTP_PROFILES] == [
        b"SRTP_AEAD_AES_256_GCM",
        b"SRTP_AEAD_AES_128_GCM",
        b"SRTP_AES128_CM_SHA1_80",
    ]


def test_status_of_libsrtp_for_repeats_is_the_one_known() -> None:
    assert pylibsrtp.ERRORS[9] == "replay check failed (bad index)"
    assert pylibsrtp.ERRORS[10] == "replay check failed (index too old)"


# ------------------------------------------------------------------ certificates


def test_process_has_one_certificate_and_one_context() -> None:
    certificates = Certificates()
    certificate = certificates.current()
    assert certificates.current() is certificate
    context = certificate._create_ssl_context(SRTP_PROFILES)
    assert certificate._create_ssl_context(SRTP_PROFILES) is context
    algorithm, _, value = certificate.fingerprint.partition(" ")
    assert algorithm == "sha-256"
    assert len(value.split(":")) == 32


def test_certificate_is_replaced_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = Certificates()
    first = certificates.current()
    left = first.expires - datetime.datetime.now(datetime.UTC)
    assert left > datetime.timedelta(days=29)
    monkeypatch.setattr(
        "callboard.gateway.aiortc_private.RENEW_BEFORE", left + datetime.timedelta(hours=1)
    )
    assert certificates.current().fingerprint != first.fingerprint


# ------------------------------------------------------------------ the handshake


async def test_handshake_gives_both_sides_the_same_keys(server: Served) -> None:
    client = Client()
    ciphers = await joined(client, *server, as_it_is)
    assert ciphers.profile == "SRTP_AEAD_AES_256_GCM"
    receiving = client.session(Policy.SSRC_ANY_INBOUND)
    assert receiving.unprotect_rtcp(ciphers.protect_rtcp(RTCP)) == RTCP
    assert client.done


async def test_client_hello_in_many_fragments_is_put_together(server: Served) -> None:
    client = Client(mtu=256, padding=1800)
    sizes: list[int] = []

    def note(flight: list[bytes]) -> list[bytes]:
        sizes.append(len(flight))
        return flight

    await joined(client, *server, note)
    assert sizes[0] > 7, "the ClientHello alone"


@pytest.mark.slow
async def test_fragments_out_of_order_and_twice_are_put_together(server: Served) -> None:
    client = Client(mtu=256, padding=1800)
    rng = random.Random(6)

    def mix(flight: list[bytes]) -> list[bytes]:
        mixed = flight * 2
        rng.shuffle(mixed)
        return mixed

    await joined(client, *server, mix)


@pytest.mark.slow
async def test_lost_flight_is_repeated(server: Served) -> None:
    dtls, out = server
    client = Client()
    accepting = asyncio.ensure_future(dtls.accept([client.fingerprint]))
    client.go_on()
    for record in client.flight():
        dtls.feed(record)
    assert await eventually(lambda: out)
    first = list(out)
    out.clear()
    assert await eventually(lambda: out), "OpenSSL's timer, a second later"
    assert [len(datagram) for datagram in out] == [len(datagram) for datagram in first]
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)


async def test_garbage_amid_a_handshake_does_not_end_it(server: Served) -> None:
    client = Client()
    rng = random.Random(7)

    def spoil(flight: list[bytes]) -> list[bytes]:
        noise = [bytes([22]) + rng.randbytes(rng.randrange(0, 60)) for _ in range(8)]
        cut = [record[: rng.randrange(1, len(record))] for record in flight]
        return [*noise, *cut, *flight]

    await joined(client, *server, spoil)


async def test_certificate_with_another_fingerprint_is_refused(server: Served) -> None:
    client = Client()
    client.certificate = RTCCertificate.generateCertificate()  # what is told, not what is shown
    with pytest.raises(ConnectionError, match="none of the fingerprints"):
        await asyncio.wait_for(joined(client, *server, as_it_is), WITHIN_S)
    assert server[0].state == "failed"


async def test_fingerprint_of_an_unknown_hash_is_not_believed(server: Served) -> None:
    client = Client()
    dtls, out = server
    accepting = asyncio.ensure_future(dtls.accept(["md5 00:11", "sha-256"]))
    client.go_on()
    while not accepting.done():
        for record in client.flight():
            dtls.feed(record)
        await asyncio.sleep(0.001)
        for datagram in out:
            client.take(datagram)
        out.clear()
    with pytest.raises(ConnectionError, match="none of the fingerprints"):
        accepting.result()


async def test_good_bye_of_the_client_closes(server: Served) -> None:
    client = Client()
    dtls, out = server
    closed: list[bool] = []
    dtls.on_closed = lambda: closed.append(True)
    await joined(client, dtls, out, as_it_is)
    client.ssl.shutdown()
    for record in client.flight():
        dtls.feed(record)
    assert await eventually(lambda: closed) == [True]
    assert dtls.state == "closed"


async def test_close_says_good_bye_and_is_not_told(server: Served) -> None:
    client = Client()
    dtls, out = server
    closed: list[bool] = []
    dtls.on_closed = lambda: closed.append(True)
    await joined(client, dtls, out, as_it_is)
    client.go_on()
    out.clear()
    dtls.close()
    assert len(out) == 1
    client.take(out[0])
    assert client.ended
    assert await eventually(lambda: dtls.state == "closed")
    assert closed == []
    assert not dtls.feed(b"\x16late")


def test_waiting_datagrams_have_a_bound(server: Served) -> None:
    dtls, _ = server
    taken = [dtls.feed(b"\x16hello") for _ in range(WAITING_MAX + 5)]
    assert taken == [True] * WAITING_MAX + [False] * 5


def test_flight_is_packed_into_datagrams_without_cutting_records() -> None:
    def record(length: int) -> bytes:
        return bytes([22, 254, 253]) + bytes(8) + length.to_bytes(2, "big") + bytes(length)

    parts = [record(length) for length in (500, 500, 300, 1187, 10, 1500, 1)]
    packed = datagrams(b"".join(parts))
    assert b"".join(packed) == b"".join(parts)
    assert packed == [parts[0] + parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]]
    assert datagrams(b"") == []


# ------------------------------------------------------------------ ciphers


def session(direction: int, key: bytes = KEY) -> Session:
    """As aiortc makes them."""
    policy = Policy(key=key, ssrc_type=direction, srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_256_GCM)
    policy.window_size = 1024
    return Session(policy)


class Ends:
    """Ciphers of ours, and a sender at the other end."""

    def __init__(self) -> None:
        self.ours = Ciphers(session(Policy.SSRC_ANY_OUTBOUND), session(Policy.SSRC_ANY_INBOUND), "")
        self.theirs = session(Policy.SSRC_ANY_OUTBOUND)


def rtp(sequence: int, ssrc: bytes = b"SSRC", size: int = 8) -> bytes:
    """A packet of RTP."""
    return bytes([0x80, 96]) + sequence.to_bytes(2, "big") + bytes(4) + ssrc + bytes(size)


def test_session_is_a_pointer_that_libsrtp_takes() -> None:
    ends = Ends()
    assert ends.ours.sending != 0
    assert ends.ours.sending == int(ffi.cast("uintptr_t", ends.ours._sending._srtp[0]))


def test_rtp_and_rtcp_are_decrypted() -> None:
    ends = Ends()
    assert ends.ours.unprotect_rtp(ends.theirs.protect(RTP)) == RTP
    assert ends.ours.unprotect_rtcp(ends.theirs.protect_rtcp(RTCP)) == RTCP


def test_repeats_are_told_from_forgeries() -> None:
    ends = Ends()
    packet, report = ends.theirs.protect(RTP), ends.theirs.protect_rtcp(RTCP)
    ends.ours.unprotect_rtp(packet)
    ends.ours.unprotect_rtcp(report)
    with pytest.raises(Replayed):
        ends.ours.unprotect_rtp(packet)
    with pytest.raises(Replayed):
        ends.ours.unprotect_rtcp(report)
    for unprotect, data in (
        (ends.ours.unprotect_rtp, ends.theirs.protect(rtp(2))),
        (ends.ours.unprotect_rtcp, ends.theirs.protect_rtcp(RTCP)),
    ):
        with pytest.raises(Forged):
            unprotect(data[:-1] + bytes([data[-1] ^ 1]))
        unprotect(data)


def test_packet_from_before_the_window_is_a_repeat() -> None:
    ends = Ends()
    old = ends.theirs.protect(rtp(10))
    ends.ours.unprotect_rtp(ends.theirs.protect(rtp(11)))
    ends.ours.unprotect_rtp(ends.theirs.protect(rtp(5000)))
    with pytest.raises(Replayed):
        ends.ours.unprotect_rtp(old)


def test_any_bytes_are_refused_and_no_more() -> None:
    ends, rng = Ends(), random.Random(8)
    for _ in range(5000):
        noise = bytes([0x80 | rng.randrange(64)]) + rng.randbytes(rng.randrange(7, 300))
        for unprotect in (ends.ours.unprotect_rtp, ends.ours.unprotect_rtcp):
            with pytest.raises((Forged, Replayed)):
                unprotect(noise)
    assert ends.ours.unprotect_rtp(ends.theirs.protect(RTP)) == RTP


def test_longest_packet_is_taken_and_a_longer_one_refused() -> None:
    ends = Ends()
    with pytest.raises(Forged):
        ends.ours.unprotect_rtp(bytes([0x80, 96]) + bytes(PACKET_BYTES_MAX))
    with pytest.raises(Forged):
        ends.ours.unprotect_rtp(bytes([0x80, 96]) + bytes(PACKET_BYTES_MAX - 2))
    with pytest.raises(ValueError, match="bytes of RTCP"):
        ends.ours.protect_rtcp(bytes([0x80, 201]) + bytes(PACKET_BYTES_MAX))
    longest = bytes([0x80, 201, 1, 255]) + b"SSRC" + bytes(PACKET_BYTES_MAX - 8)
    assert len(ends.ours.protect_rtcp(longest)) > PACKET_BYTES_MAX


def test_what_is_no_rtcp_is_not_encrypted() -> None:
    with pytest.raises(ValueError, match="refuses"):
        Ends().ours.protect_rtcp(b"\x80")


def test_sources_of_one_peer_have_a_bound() -> None:
    ends = Ends()
    for number in range(SSRCS_MAX):
        ends.ours.unprotect_rtp(ends.theirs.protect(rtp(1, number.to_bytes(4, "big"))))
    with pytest.raises(Forged, match="SSRCs"):
        ends.ours.unprotect_rtp(ends.theirs.protect(rtp(1, b"more")))
    assert ends.ours.unprotect_rtp(ends.theirs.protect(rtp(2, bytes(4)))) == rtp(2, bytes(4))
