"""What a program puts into its exchange comes from outside: any bytes are a request or refused."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import CertificateSigningRequestBuilder, Name, load_der_x509_csr
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.capabilities import require

from callboard.issuer.exchange import BadRequest, allowed, read_bounded, read_request
from callboard.pki.certificates import new_key, pem, request
from callboard.pki.roles import Names

ADDRESS = ipaddress.ip_address("10.85.53.7")
GOOD = pem(request(new_key(), "hub", Names(addresses=(ADDRESS,))))


def test_a_good_request_gives_key_and_addresses() -> None:
    found = read_request(GOOD)
    assert found.addresses == (ADDRESS,)
    assert isinstance(found.key, ec.EllipticCurvePublicKey)


@given(st.binary(max_size=2000))
def test_any_bytes_are_refused_in_words(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_request(body)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_damaged_request_is_refused_or_still_signed_by_its_own_key(at: int, flip: int) -> None:
    body = bytearray(GOOD)
    body[at] ^= flip
    try:
        found = read_request(bytes(body))
    except BadRequest:
        return
    assert found == read_request(GOOD)


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    made = request(new_key(), "x", Names(dns=("hub-1",)))
    der = bytearray(made.public_bytes(serialization.Encoding.DER))
    der[der.index(b"hub-1")] = ord("p")
    with pytest.raises(BadRequest, match="not signed with its own key"):
        read_request(pem(load_der_x509_csr(bytes(der))))


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
)
def test_other_keys_than_p_256_are_refused(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    made = CertificateSigningRequestBuilder().subject_name(Name([])).sign(key, hashes.SHA256())
    with pytest.raises(BadRequest, match="P-256"):
        read_request(made.public_bytes(serialization.Encoding.PEM))


def test_addresses_of_other_networks_and_families_are_left_out() -> None:
    asked = tuple(map(ipaddress.ip_address, ("10.85.53.7", "10.85.54.7", "::1", "2001:db8::1")))
    networks = (ipaddress.ip_network("10.85.53.0/24"), ipaddress.ip_network("2001:db8::/32"))
    assert [str(each) for each in allowed(asked, networks)] == ["10.85.53.7", "2001:db8::1"]


def test_a_missing_file_is_nothing_and_anything_but_a_plain_file_is_refused(tmp_path: Path) -> None:
    assert read_bounded(tmp_path / "request.pem") is None
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "folder", "link"):
        with pytest.raises(BadRequest):
            read_bounded(tmp_path / name)


@pytest.mark.parametrize("trap", [os.mkfifo, Path.mkdir, Path.touch])
def test_what_is_refused_is_closed_again(tmp_path: Path, trap: Callable[[Path], None]) -> None:
    """It is looked at every second: one descriptor a look would soon be none for the others."""
    require("linux")
    path = tmp_path / "request.pem"
    trap(path)
    before = descriptors()
    for _ in range(5):
        with suppress(BadRequest):
            read_bounded(path)
    assert descriptors() <= before


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
