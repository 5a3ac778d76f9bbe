"""Where viewers reach the media port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.eventually import eventually

from callboard.gateway.ice import binding
from callboard.gateway.ice.candidates import Place
from callboard.gateway.mux import advertised as module
from callboard.gateway.mux.advertised import Advertised, Entry, parse_entry
from callboard.gateway.peer.transports import MediaTransports
from callboard.gateway.ports import Address

PORT = 8189
NAMES = {"here.example": ["192.0.2.7", "2001:db8::7"], "local.example": ["127.0.0.5"]}


async def by_table(name: str) -> Sequence[str]:
    """Names of a table."""
    if name not in NAMES:
        raise OSError("no such name")
    return NAMES[name]


def nobody(data: bytes, server: Address) -> bool:
    """No STUN server is asked."""
    raise AssertionError(f"{server} was asked")


def hosts(advertised: Advertised, *, loopback: bool = False) -> list[str]:
    """Of all places."""
    return [place.address.host for place in advertised.places(loopback=loopback)]


async def started(
    *words: str,
    bind: str = "0.0.0.0",
    ask: Callable[[bytes, Address], bool] = nobody,
) -> Advertised:
    """Asked for once; nothing runs on."""
    advertised = Advertised(words, bind, PORT, ask, resolve=by_table)
    await advertised.start()
    await advertised.stop()
    return advertised


@pytest.mark.parametrize(
    ("word", "entry"),
    [
        ("192.0.2.1", Entry("192.0.2.1")),
        ("2001:db8::1", Entry("2001:db8::1")),
        ("2001:DB8:0::1", Entry("2001:db8::1")),
        ("192.0.2.1:18189", Entry("192.0.2.1", port=18189)),
        ("media.example.org:1", Entry("media.example.org", port=1)),
        ("[2001:db8::1]:65535", Entry("2001:db8::1", port=65535)),
        ("[2001:db8::1]", Entry("2001:db8::1")),
        ("media.example.org", Entry("media.example.org")),
        ("stun:stun.example.org", Entry("stun.example.org", 3478)),
        ("stun:stun.example.org:19302", Entry("stun.example.org", 19302)),
        ("stun:192.0.2.1:1", Entry("192.0.2.1", 1)),
        ("stun:[2001:db8::1]:3479", Entry("2001:db8::1", 3479)),
        ("stun:[2001:db8::1]", Entry("2001:db8::1", 3478)),
        ("stun:2001:db8::1", Entry("2001:db8::1", 3478)),
    ],
)
def test_words_are_addresses_names_and_servers(word: str, entry: Entry) -> None:
    assert parse_entry(word) == entry


@pytest.mark.parametrize(
    "word",
    ["", "a b", "http://x", "x:", "x:0", "x:65536", "x:y", "x:1:2", "x:²", ":1", "[::1", "[::1]x",
     "[::1]:", "[::1]:0", "[x]:1", "[192.0.2.1]:1", "[a:b]:1", "2001:db8::1:x", "stun:", "stun:x:",
     "stun:x:0", "stun:x:65536", "stun:x:y", "stun:[::1", "stun:[::1]x", "stun:x:²", "é"],
)  # fmt: skip
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"stun:HOST"):
        parse_entry(word)


@given(st.text(st.sampled_from("stun:[]1a.%²-") | st.characters(), max_size=20))
def test_any_word_is_an_entry_that_can_be_written_or_is_refused(word: str) -> None:
    try:
        entry = parse_entry(word)
    except ValueError:
        return
    assert parse_entry(str(entry)) == entry


def test_loopback_is_told_by_the_address_alone() -> None:
    for word in ("127.0.0.1", "127.0.0.1:18189", "[::1]:18189", "::1"):
        assert parse_entry(word).is_loopback
    for word in ("192.0.2.1:18189", "localhost", "stun:127.0.0.1"):
        assert not parse_entry(word).is_loopback


async def test_addresses_come_in_the_order_given_and_names_as_addresses() -> None:
    advertised = await started("198.51.100.1", "here.example")
    assert hosts(advertised) == ["198.51.100.1", "192.0.2.7", "2001:db8::7"]
    assert all(place.address.port == PORT for place in advertised.places(loopback=False))


async def test_port_that_the_media_port_is_published_at_is_told_with_its_host() -> None:
    words = ("198.51.100.1:18189", "[2001:db8::1]:28189", "here.example:38189", "192.0.2.9")
    places = (await started(*words)).places(loopback=False)
    assert [place.address for place in places] == [
        Address("198.51.100.1", 18189),
        Address("2001:db8::1", 28189),
        Address("192.0.2.7", 38189),
        Address("2001:db8::7", 38189),
        Address("192.0.2.9", PORT),
    ]


async def test_published_port_of_a_loopback_address_comes_before_our_own() -> None:
    places = (await started("127.0.0.1:18189")).places(loopback=True)
    assert [place.address.port for place in places] == [18189, PORT]


async def test_loopback_is_told_only_to_who_asked_for_it_and_first() -> None:
    advertised = await started("198.51.100.1", "127.0.0.1", "local.example")
    assert hosts(advertised) == ["198.51.100.1"]
    assert hosts(advertised, loopback=True) == ["127.0.0.1", "127.0.0.5", "198.51.100.1"]


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("0.0.0.0", ["127.0.0.1", "198.51.100.1"]),
        ("::", ["127.0.0.1", "::1", "198.51.100.1"]),
        ("127.0.0.3", ["127.0.0.3", "198.51.100.1"]),
        ("192.0.2.1", ["198.51.100.1"]),
    ],
)
async def test_loopback_address_is_one_that_the_socket_hears(
    bind: str, expected: list[str]
) -> None:
    advertised = await started("198.51.100.1", bind=bind)
    assert hosts(advertised, loopback=True) == expected


async def test_name_that_is_not_found_is_left_out_until_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RESOLVE_INTERVAL_S", 0.01)
    advertised = Advertised(["late.example"], "0.0.0.0", PORT, nobody, resolve=by_table)
    await advertised.start()
    assert hosts(advertised) == []
    assert advertised.missing == ("late.example",)
    monkeypatch.setitem(NAMES, "late.example", ["192.0.2.9"])
    assert await eventually(lambda: hosts(advertised)) == ["192.0.2.9"]
    assert not advertised.missing
    monkeypatch.setitem(NAMES, "late.example", ["192.0.2.10"])
    assert await eventually(lambda: hosts(advertised) == ["192.0.2.10"])
    asked = 0

    async def unknown(name: str) -> Sequence[str]:
        nonlocal asked
        asked += 1
        raise OSError("no such name")

    advertised._resolve = unknown
    assert await eventually(lambda: asked >= 2)
    assert hosts(advertised) == ["192.0.2.10"], "what was found last stays"
    await advertised.stop()


async def test_name_of_many_addresses_gives_some() -> None:
    NAMES["many.example"] = [f"192.0.2.{last}" for last in range(1, 200)]
    try:
        assert len(hosts(await started("many.example"))) == module.ADDRESSES_PER_NAME_MAX
    finally:
        del NAMES["many.example"]


async def test_resolver_that_hangs_does_not_hold_up_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RESOLVE_TIMEOUT_S", 0.01)

    async def never(name: str) -> Sequence[str]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    advertised = Advertised(["here.example"], "0.0.0.0", PORT, nobody, resolve=never)
    await advertised.start()
    assert hosts(advertised) == []
    await advertised.stop()


async def test_address_that_a_stun_server_sees_is_reflexive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STUN_WAITS_S", (0.05, 5.0))
    asked: list[bytes] = []
    server = Address("203.0.113.1", 3478)
    seen = Address("198.51.100.9", 40_000)

    def ask(data: bytes, to: Address) -> bool:
        asked.append(data)
        if len(asked) == 1:
            return True  # lost on its way
        request = binding.parse(data)
        assert isinstance(request, binding.Request)
        answer = binding.parse(binding.success(request, seen, None))
        assert isinstance(answer, binding.Mapped)
        assert not advertised.answered(answer, Address("203.0.113.2", 3478)), "a stranger's"
        assert advertised.answered(answer, to)
        return True

    advertised = Advertised(["stun:203.0.113.1"], "192.0.2.1", PORT, ask, resolve=by_table)
    await advertised.start()
    base = Address("192.0.2.1", PORT)
    assert advertised.places(loopback=False) == (Place(seen, mapped_from=base),)
    assert len(asked) == 2
    assert asked[0] == asked[1], "a repeated request is the same one"
    late = binding.Mapped(asked[0][8:20], seen)
    assert not advertised.answered(late, server)
    await advertised.stop()


async def test_silent_stun_server_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUN_WAITS_S", (0.01, 0.01))
    asked: list[Address] = []

    def ask(data: bytes, to: Address) -> bool:
        asked.append(to)
        return True

    advertised = await started("stun:203.0.113.1", ask=ask)
    assert hosts(advertised) == []
    assert advertised.missing == ("stun:203.0.113.1:3478",)
    assert len(asked) == 2


async def test_stun_server_that_there_is_no_way_to_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STUN_WAITS_S", (1e6,))
    advertised = await asyncio.wait_for(started("stun:[2001:db8::1]", ask=lambda *_: False), 10)
    assert advertised.missing == ("stun:[2001:db8::1]:3478",)


async def test_media_port_asks_another_one_who_it_is() -> None:
    server = MediaTransports("127.0.0.1", 0)
    await server.start()
    asker = MediaTransports("0.0.0.0", 0, [f"stun:127.0.0.1:{server.port}"])
    await asker.start()
    (udp, *_) = asker.candidates(loopback=True)
    assert f"127.0.0.1 {asker.port} typ" in udp
    assert server.counters.datagrams >= 1
    await asker.stop()
    await server.stop()
