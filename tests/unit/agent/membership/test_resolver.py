"""Names to addresses, without ever holding up the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from callboard.agent.membership.resolver import (
    ADDRESSES_MAX,
    LOOKUPS_MAX,
    Resolver,
    split_host_port,
    system_lookup,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("agent-1", "agent-1", 8301),
        ("agent-1:7946", "agent-1", 7946),
        ("10.0.0.1", "10.0.0.1", 8301),
        (" 10.0.0.1:1 ", "10.0.0.1", 1),
        ("fd00::1", "fd00::1", 8301),
        ("[fd00::1]", "fd00::1", 8301),
        ("[fd00::1]:7946", "fd00::1", 7946),
    ],
)
def test_address_is_taken_apart(text: str, host: str, port: int) -> None:
    assert split_host_port(text, 8301) == (host, port)


@pytest.mark.parametrize("text", ["", ":8301", "a:b", "a:0", "a:65536", "[::1]x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        split_host_port(text, 8301)


async def test_address_is_its_own_and_no_name_is_looked_up() -> None:
    def never(_host: str) -> list[str]:
        raise AssertionError

    assert await Resolver(never).resolve("10.0.0.1", 1.0) == ["10.0.0.1"]


async def test_name_is_looked_up_each_time() -> None:
    answers = [["10.0.0.1"], ["10.0.0.2"]]
    resolver = Resolver(lambda _host: answers.pop(0))
    assert await resolver.resolve("agent-1", 1.0) == ["10.0.0.1"]
    assert await resolver.resolve("agent-1", 1.0) == ["10.0.0.2"]


async def test_localhost_is_found_by_the_system() -> None:
    assert "127.0.0.1" in system_lookup("localhost")


async def test_error_of_the_look_up_is_raised() -> None:
    def fail(_host: str) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(OSError, match="no such name"):
        await Resolver(fail).resolve("agent-1", 1.0)


async def test_name_that_can_be_none_is_an_error_of_the_look_up() -> None:
    with pytest.raises(OSError):
        await Resolver().resolve("a" * 70 + ".é", 5.0)


async def test_look_up_that_hangs_is_given_up() -> None:
    release = threading.Event()
    resolver = Resolver(lambda _host: [str(release.wait(30))])
    with pytest.raises(TimeoutError):
        await resolver.resolve("agent-1", 0.05)
    release.set()


async def test_look_ups_that_hang_are_bounded() -> None:
    release = threading.Event()
    resolver = Resolver(lambda _host: [str(release.wait(30))])
    hanging = [asyncio.create_task(resolver.resolve(f"a{n}", 5.0)) for n in range(LOOKUPS_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="hanging"):
        await resolver.resolve("one-more", 5.0)
    release.set()
    await asyncio.gather(*hanging)


async def test_addresses_of_one_name_are_bounded() -> None:
    resolver = Resolver(lambda _host: [f"10.0.0.{n}" for n in range(100)])
    assert len(await resolver.resolve("agent-1", 1.0)) == ADDRESSES_MAX
