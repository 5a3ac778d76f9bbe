"""The default route's gateway."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.sources.neighbour import gateway_in
from callboard.gateway.sources.senders import network_of

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def route(destination: str, gateway: str, *, flags: int = 3, metric: int = 0, mask: str) -> str:
    return f"eth0\t{number(destination)}\t{number(gateway)}\t{flags:04X}\t0\t0\t{metric}\t" + (
        f"{number(mask)}\t0\t0\t0\n"
    )


def number(address: str) -> str:
    """As the kernel prints it: a word of the machine's order."""
    packed = bytes(map(int, address.split(".")))
    return f"{int.from_bytes(packed, sys.byteorder):08X}"


LOCAL = route("172.18.0.0", "0.0.0.0", flags=1, mask="255.255.0.0")


@pytest.mark.parametrize(
    ("table", "gateway"),
    [
        (HEAD + route("0.0.0.0", "172.18.0.1", mask="0.0.0.0") + LOCAL, "172.18.0.1"),
        (HEAD + LOCAL, None),
        (HEAD + route("0.0.0.0", "0.0.0.0", flags=1, mask="0.0.0.0"), None),
        (HEAD + route("0.0.0.0", "10.0.0.1", metric=600, mask="0.0.0.0")
         + route("0.0.0.0", "10.0.0.2", metric=100, mask="0.0.0.0"), "10.0.0.2"),
        (HEAD + "nonsense\n\n" + route("0.0.0.0", "10.0.0.1", mask="0.0.0.0"), "10.0.0.1"),
        ("", None),
    ],
)  # fmt: skip
def test_the_gateway_of_the_default_route_is_found(table: str, gateway: str | None) -> None:
    assert gateway_in(table) == (network_of(gateway) if gateway else None)


@given(st.text(alphabet="0123456789abcdefFx \t\n-"))
def test_any_text_is_read_without_an_error(table: str) -> None:
    gateway_in(HEAD + table)
