"""The driver on real sockets: join, leave, die, come back, and what strangers send."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.gossip_agents import Agent, Agents, agents, quick

from callboard.agent.membership import JoinError, MemberEventKind, UnknownMember
from callboard.agent.membership.resolver import Resolver
from callboard.agent.membership.snapshot import read_snapshot
from callboard.agent.membership.transport import STREAMS_MAX
from callboard.swim.config import Config

KEY, OTHER_KEY = bytes(32), bytes(range(32))


async def pair(group: Agents, keys: tuple[bytes, ...] = ()) -> tuple[Agent, Agent]:
    """Two agents that know each other."""
    one = await group.start("one", keys=keys)
    two = await group.start("two", keys=keys)
    assert await two.membership.join([one.address]) == 1
    await eventually(lambda: one.status("two") == two.status("one") == "alive")
    return one, two


def endpoint(agent: Agent) -> tuple[str, int]:
    host, _, port = agent.address.rpartition(":")
    return host, int(port)


# --- joining ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["plain", "encrypted"])
async def test_two_agents_know_each_other_with_their_tags(keys: tuple[bytes, ...]) -> None:
    async with agents() as group:
        one, two = await pair(group, keys=keys)
        assert one.member("two").tags == {"role": "callboard", "id": "id-two"}
        assert [member.name for member in two.membership.members()] == ["one", "two"]


async def test_three_agents_that_start_at_once_find_each_other() -> None:
    async with agents() as group:
        first = await group.start("a")
        peers = (first.address,)
        others = [await group.start(name, retry_join=peers) for name in ("b", "c")]
        for agent in (first, *others):
            await eventually(lambda: len(agent.membership.members()) == 3)  # noqa: B023


async def test_third_agent_is_heard_of_by_gossip() -> None:
    async with agents() as group:
        one, _ = await pair(group)
        await group.start("three", retry_join=(one.address,))
        await eventually(lambda: "three" in {m.name for m in group.running[1].membership.members()})


async def test_join_of_nobody_is_an_error() -> None:
    async with agents() as group:
        one = await group.start("one")
        with pytest.raises(JoinError, match=r"^127.12.0.99:1: connect: connection refused$"):
            await one.membership.join(["127.12.0.99:1"])


async def test_join_under_another_key_is_an_error_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with agents() as group:
        one = await group.start("one", keys=(KEY,))
        two = await group.start("two", keys=(OTHER_KEY,))
        with pytest.raises(JoinError):
            await two.membership.join([one.address])
        assert one.status("two") == ""
        assert "no gossip of this cluster" in caplog.text


async def test_peer_found_by_name_is_looked_up_again_after_it_moved() -> None:
    async with agents() as group:
        one = await group.start("one")
        host, port = endpoint(one)
        names = {"peer": host}
        two = await group.start(
            "two",
            retry_join=(f"peer:{port}",),
            resolver=Resolver(lambda name: [names[name]]),
        )
        await eventually(lambda: two.status("one") == "alive")
        await group.kill(one)
        names["peer"] = "127.12.0.77"
        await group.start("one", bind="127.12.0.77", port=port, advertise_port=port)
        await eventually(lambda: two.member("one").address == "127.12.0.77")
        await eventually(lambda: two.status("one") == "alive")


async def test_streams_leave_from_the_bound_address() -> None:
    peers: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        peers.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server, agents() as group:
        one = await group.start("one")
        with pytest.raises(JoinError, match="without an answer"):
            await one.membership.join([f"127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        assert peers == [endpoint(one)[0]]


# --- going ------------------------------------------------------------------------------------


async def test_leaver_is_left_at_the_others() -> None:
    async with agents() as group:
        one, two = await pair(group)
        await two.membership.leave()
        await group.kill(two)
        await eventually(lambda: one.status("two") == "left")
        assert one.seen("two") == ["join", "leave"]


async def test_leaving_alone_takes_no_time() -> None:
    async with agents() as group:
        one = await group.start("one")
        started = time.monotonic()
        await one.membership.leave()
        assert time.monotonic() - started < 0.1


async def test_killed_agent_has_failed_and_is_alive_again_when_it_is_back() -> None:
    async with agents() as group:
        one, two = await pair(group)
        host, port = endpoint(two)
        await group.kill(two)
        await eventually(lambda: one.status("two") == "failed")
        await group.start("two", bind=host, port=port, retry_join=(one.address,))
        await eventually(lambda: one.status("two") == "alive")
        assert one.seen("two") == ["join", "failed", "join"]


async def test_failed_agent_can_be_forced_to_left_and_pruned() -> None:
    async with agents() as group:
        one, two = await pair(group)
        await group.kill(two)
        await eventually(lambda: one.status("two") == "failed")
        await one.membership.force_leave("two")
        assert one.status("two") == "left"
        await one.membership.force_leave("two", prune=True)
        assert one.status("two") == ""
        assert one.events[-1].kind == MemberEventKind.REAP


async def test_forcing_a_stranger_is_an_error() -> None:
    async with agents() as group:
        one = await group.start("one")
        with pytest.raises(UnknownMember, match="No node found with name 'nobody'"):
            await one.membership.force_leave("nobody")


# --- tags, names, listeners -------------------------------------------------------------------


async def test_new_tags_are_seen_by_the_others() -> None:
    async with agents() as group:
        one, two = await pair(group)
        two.membership.set_tags({"role": "callboard", "srv": "1"})
        await eventually(lambda: one.member("two").tags.get("srv") == "1")
        assert one.seen("two")[-1] == "update"


async def test_later_agent_of_two_with_one_name_is_told_and_the_first_keeps_it() -> None:
    async with agents() as group:
        one, two = await pair(group)
        late = await group.start("two", tags={"role": "callboard", "id": "another"})
        await late.membership.join([one.address])
        await eventually(lambda: any(c.we_are_later and c.about_us for c in late.conflicts))
        await eventually(lambda: any(not c.about_us for c in one.conflicts))
        assert one.member("two").endpoint == endpoint(two)


async def test_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: object) -> None:
        raise RuntimeError("listener")

    async with agents() as group:
        one = await group.start("one")
        one.membership.listen(fail)
        two = await group.start("two", retry_join=(one.address,))
        await eventually(lambda: one.status("two") == two.status("one") == "alive")
    assert "a listener of member events failed" in caplog.text


async def test_figures_have_consuls_names() -> None:
    async with agents() as group:
        one, _ = await pair(group)
        figures = one.membership.stats()
        assert (figures["members"], figures["failed"], figures["encrypted"]) == ("2", "0", "false")


# --- what strangers send ----------------------------------------------------------------------


async def test_garbage_datagrams_are_logged_at_a_bounded_rate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with agents() as group:
        one, two = await pair(group)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for number in range(200):
                stranger.sendto(b"\xfe" + bytes(number), endpoint(one))
        await eventually(lambda: "no gossip of this cluster" in caplog.text)
        one.membership.set_tags({"still": "here"})
        await eventually(lambda: two.member("one").tags == {"still": "here"})
        assert caplog.text.count("no gossip of this cluster") <= 5


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x06\xdf\xff\xff\xff\xff", b"\x0a\xff\xff\xff\xff", b""],
    ids=["http", "huge map", "huge block", "nothing"],
)
async def test_garbage_on_a_stream_closes_the_stream_and_nothing_else(data: bytes) -> None:
    async with agents() as group:
        one, _ = await pair(group)
        reader, writer = await asyncio.open_connection(*endpoint(one))
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
        three = await group.start("three")
        assert await three.membership.join([one.address]) == 1


async def test_stream_that_sends_nothing_is_closed_in_time() -> None:
    async with agents() as group:
        one = await group.start("one")
        reader, writer = await asyncio.open_connection(*endpoint(one))
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_streams_above_the_limit_are_closed_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with agents() as group:
        one = await group.start("one", profile=patient)
        streams = [await asyncio.open_connection(*endpoint(one)) for _ in range(STREAMS_MAX + 1)]
        async with asyncio.timeout(5):
            assert await streams[-1][0].read() == b""
        assert "too many streams at once" in str([record.__dict__ for record in caplog.records])
        for _, writer in streams:
            writer.close()


def patient(name: str, address: str, port: int) -> Config:
    """Streams may stay open for long."""
    return replace(quick(name, address, port), stream_timeout_s=60.0)


async def test_agent_without_file_descriptors_serves_again_when_it_has_some() -> None:
    async with agents() as group:
        one = await group.start("one")
        two = await group.start("two")
        with socket.socket() as caller:
            caller.setblocking(False)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            fullest = _highest_descriptor()
            resource.setrlimit(resource.RLIMIT_NOFILE, (fullest, hard))
            fillers = _fill_descriptors()
            try:
                await asyncio.get_running_loop().sock_connect(caller, endpoint(one))
                await eventually(_refuses_descriptors)
            finally:
                for filler in fillers:
                    os.close(filler)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await two.membership.join([one.address]) == 1


def _highest_descriptor() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


def _fill_descriptors() -> list[int]:
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return taken


def _refuses_descriptors() -> bool:
    try:
        os.close(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return True
    return False


# --- addresses --------------------------------------------------------------------------------


async def test_agents_meet_on_ipv6() -> None:
    async with agents() as group:
        one = await group.start("one", bind="::1")
        two = await group.start("two", bind="::1")
        port = one.membership.local_member.port
        assert await two.membership.join([f"[::1]:{port}"]) == 1
        await eventually(lambda: one.status("two") == two.status("one") == "alive")


async def test_agent_on_all_addresses_announces_the_one_given() -> None:
    async with agents() as group:
        one = await group.start("one", bind="0.0.0.0", advertise="127.0.0.1")
        assert one.membership.local_member.address == "127.0.0.1"


async def test_agent_on_all_addresses_does_not_join_itself() -> None:
    async with agents() as group:
        one = await group.start("one", bind="0.0.0.0")
        port = one.membership.local_member.port
        with pytest.raises(JoinError, match="agent's own"):
            await one.membership.join([f"127.0.0.1:{port}"])


async def test_port_in_use_is_an_error_that_names_it() -> None:
    async with agents() as group:
        one = await group.start("one")
        host, port = endpoint(one)
        with pytest.raises(OSError, match=f"cannot listen on {host} port {port}"):
            await group.start("two", bind=host, port=port)


async def test_tags_that_are_too_long_are_an_error_at_start() -> None:
    async with agents() as group:
        with pytest.raises(ValueError, match="the most is 512"):
            await group.start("one", tags={"x": "y" * 600})


# --- over a restart ---------------------------------------------------------------------------


async def test_restarted_agent_finds_its_cluster_by_its_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "serf" / "local.snapshot"
    async with agents() as group:
        one = await group.start("one")
        two = await group.start("two", snapshot_path=path, retry_join=(one.address,))
        await eventually(lambda: two.status("one") == "alive")
        await group.kill(two)
        assert [peer.name for peer in read_snapshot(path).peers] == ["one"]
        again = await group.start("two", snapshot_path=path)
        await eventually(lambda: again.status("one") == "alive")


async def test_agent_that_left_does_not_go_back_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "local.snapshot"
    async with agents() as group:
        one = await group.start("one")
        two = await group.start("two", snapshot_path=path, retry_join=(one.address,))
        await eventually(lambda: two.status("one") == "alive")
        await two.membership.leave()
        await group.kill(two)
        assert read_snapshot(path).left


async def test_agent_that_left_goes_back_if_it_shall_rejoin(tmp_path: Path) -> None:
    path = tmp_path / "local.snapshot"
    async with agents() as group:
        one = await group.start("one")
        two = await group.start("two", snapshot_path=path, retry_join=(one.address,))
        await eventually(lambda: two.status("one") == "alive")
        await two.membership.leave()
        await group.kill(two)
        again = await group.start("two", snapshot_path=path, rejoin_after_leave=True)
        await eventually(lambda: again.status("one") == "alive")


async def test_giving_up_is_told_and_gossip_goes_on_listening() -> None:
    async with agents() as group:
        alone = await group.start(
            "alone", retry_join=("127.12.0.99:1",), retry_interval_s=0.1, retry_max=2
        )
        await eventually(lambda: alone.gave_up == ["alone"])
        other = await group.start("other", retry_join=(alone.address,))
        await eventually(lambda: other.status("alone") == "alive")


# --- pauses -----------------------------------------------------------------------------------

PAUSED = """
import asyncio, sys
from tests.harness.eventually import eventually
from tests.harness.gossip_agents import agents

async def main():
    async with agents() as group:
        agent = await group.start("paused", bind="127.12.0.50", retry_join=(sys.argv[1],))
        agent.membership.listen(lambda e: print(e.kind, e.member.name, flush=True))
        await eventually(lambda: agent.status("one") == "alive")
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print("done", flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_process_woken_from_a_stop_declares_nobody_dead() -> None:
    async with agents() as group:
        one, _ = await pair(group)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PAUSED,
            one.address,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[4],
        )
        try:
            assert process.stdout is not None and process.stdin is not None
            async with asyncio.timeout(20):
                while (await process.stdout.readline()).strip() != b"ready":
                    pass
            await eventually(lambda: one.status("paused") == "alive")
            process.send_signal(signal.SIGSTOP)
            await eventually(lambda: one.status("paused") == "failed")
            process.send_signal(signal.SIGCONT)
            await eventually(lambda: one.status("paused") == "alive")
            process.stdin.close()
            async with asyncio.timeout(10):
                said = (await process.stdout.read()).decode().split("\n")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        assert [line for line in said if line.startswith("failed")] == []
        assert "done" in said
