"""The store of several hubs while its server, or what lies between, fails."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.postgres import PostgresServer, serving
from tests.harness.postgres_relay import Loses, relayed
from tests.harness.postgres_stores import NOW_MS, Hub, draft, hubs

from callboard.hub.event import Update
from callboard.hub.history import postgres, postgres_connection
from callboard.hub.history.store import Bound, Retention, StoreAway, StoreFailed
from callboard.hub.ports import HistoryBusy, HistoryError, HistoryFull, HistoryUncertain

LARGE = 1 << 30
APPEND = "callboard_hub.append"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[PostgresServer]:
    require("postgres")
    with serving() as server:
        yield server


@pytest.fixture
def server(running: PostgresServer) -> Iterator[PostgresServer]:
    """The server, running again after what the test did to it."""
    yield running
    if not running.runs:
        running.start()
        running.wait_ready()


async def texts(url: str) -> list[str]:
    """What the history has."""
    async with hubs(url) as [hub]:
        return [u.data.decode() for u in (await hub.store.read(0, LARGE, 100_000)).updates]


async def until_taken(hub: Hub, text: str) -> Update:
    """Publish, again and again while it is refused."""

    async def publish() -> Update:
        [update] = await hub.publish(text)
        return update

    return await eventually(publish)


async def restart(server: PostgresServer) -> None:
    server.start()
    await eventually(server.answers)


# ---------------------------------------------------------------------------- the server is gone


async def test_without_a_server_a_hub_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "OPEN_WAIT_S", 0.2)
    with pytest.raises(OSError, match="PostgreSQL: connection failed"):
        await Hub("postgresql://callboard@127.0.0.1:1/none").open()


async def test_a_hub_waits_for_a_server_that_starts(server: PostgresServer) -> None:
    url = server.database()
    server.stop()
    hub = Hub(url)
    opening = asyncio.create_task(hub.open())
    await restart(server)
    await opening
    await hub.store.close()


async def test_without_the_server_publications_are_refused_and_reads_are_away(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "APPEND_WAIT_S", 0.2)
    async with hubs(server.database()) as [hub]:
        await hub.publish("a")
        server.stop()
        with pytest.raises(HistoryBusy):
            await hub.publish("b")
        with pytest.raises(StoreAway):
            await hub.store.read(0, LARGE, 10)
        await restart(server)
        await until_taken(hub, "c")
        await eventually(lambda: len(hub.told) == 2)
        assert [u.data for u in hub.told] == [b"a", b"c"]
        assert hub.offsets == [1, 2]


async def test_a_short_absence_is_waited_out(server: PostgresServer) -> None:
    async with hubs(server.database()) as [hub]:
        server.stop()
        publishing = asyncio.create_task(hub.publish("a"))
        await restart(server)
        [update] = await publishing
        assert update.offset == 1


async def test_an_absence_is_two_lines_in_the_log(
    server: PostgresServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "APPEND_WAIT_S", 0.2)
    async with hubs(server.database(), 2) as all_hubs:
        caplog.set_level(logging.INFO, "callboard")
        server.stop()
        for hub in all_hubs:
            with pytest.raises(HistoryBusy):
                await hub.publish("a")
        await restart(server)
        for hub in all_hubs:
            await until_taken(hub, "b")
    lines = [record.message for record in caplog.records]
    assert sum(line.startswith("PostgreSQL is away: ") for line in lines) == 2
    assert sum(line.startswith("PostgreSQL is back after ") for line in lines) == 2
    assert len(lines) == 4


@pytest.mark.parametrize("how", ["kill", "immediate", "fast"])
async def test_a_server_restarted_under_load_loses_and_doubles_nothing(
    server: PostgresServer, how: str
) -> None:
    url = server.database()
    async with hubs(url, 2) as [first, second]:
        acknowledged: dict[str, int] = {}
        stop = False

        async def publish(hub: Hub, name: str) -> None:
            number = 0
            while not stop:
                number += 1
                text = f"{name}{number}"
                try:
                    [update] = await hub.publish(text)
                    acknowledged[text] = update.offset
                except HistoryBusy:
                    await asyncio.sleep(0.01)

        async def more() -> None:
            enough = len(acknowledged) + 20
            await eventually(lambda: len(acknowledged) > enough)

        publishers = [asyncio.create_task(publish(h, n)) for h, n in ((first, "a"), (second, "b"))]
        for _ in range(3):
            await more()
            if how == "kill":
                server.kill()
            else:
                # (it waits for clients that are about to say who they are: ours go on meanwhile)
                number = signal.SIGQUIT if how == "immediate" else signal.SIGINT
                await asyncio.to_thread(server.stop, number)
            await restart(server)
        await more()
        stop = True
        await asyncio.gather(*publishers)
        await eventually(lambda: len(first.told) == len(second.told))
        assert first.seen == second.seen
        assert first.offsets == list(range(1, len(first.offsets) + 1))
        told = [u.data.decode() for u in first.told]
        assert len(set(told)) == len(told)
        assert {text: told.index(text) + 1 for text in acknowledged} == acknowledged
        assert (first.reasons, second.reasons) == ([], [])
    assert await texts(url) == told


async def test_a_reader_goes_on_at_another_hub_where_the_first_one_ended(
    server: PostgresServer,
) -> None:
    url = server.database()
    async with hubs(url) as [survivor]:
        async with hubs(url) as [dying]:
            await dying.publish("a", "b")
            await survivor.publish("c")
            await eventually(lambda: len(dying.told) == 3)
            last = dying.told[1]
        await survivor.publish("d")
        page = await survivor.store.read(last.offset, LARGE, 10)
        assert [u.data for u in page.updates] == [b"c", b"d"]
        assert {u.epoch for u in page.updates} == {last.epoch}


# ---------------------------------------------------------------------------- lost answers


@pytest.mark.parametrize("what", [Loses.REQUEST, Loses.ANSWER])
async def test_an_append_whose_answer_was_lost_is_there_once(
    server: PostgresServer, what: Loses
) -> None:
    url = server.database()
    async with relayed(url) as (relay_url, relay), hubs(relay_url) as [hub], hubs(url) as [other]:
        await hub.publish("a")
        relay.lose(what, APPEND)
        drafts = [draft("b"), draft("c", key="k"), draft("d", key="k")]
        answers = await hub.store.append(drafts)
        assert relay.lost == 1
        assert [u.offset for u in answers] == [2, 3, 3]
        assert hub.offsets == [1, 2, 3]
        await eventually(lambda: other.seen == hub.seen)
    assert await texts(url) == ["a", "b", "c"]


async def test_others_append_before_the_answer_is_found(server: PostgresServer) -> None:
    url = server.database()
    async with relayed(url) as (relay_url, relay), hubs(relay_url) as [hub], hubs(url) as [other]:
        await other.store.append([draft("0", key="k", own_id="first")])
        relay.lose(Loses.ANSWER, APPEND)
        appending = asyncio.create_task(hub.store.append([draft("a"), draft("b", key="k")]))
        await eventually(lambda: relay.lost)
        await other.publish("c")
        new, again = await appending
        assert (again.offset, again.id) == (1, "first")
        await eventually(lambda: hub.seen == other.seen)
        assert other.told[new.offset - 1].data == b"a"
    assert sorted(await texts(url)) == ["0", "a", "c"]


async def test_what_became_of_an_append_is_not_waited_for_for_ever(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "DOUBT_WAIT_S", 0.5)
    url = server.database()
    async with relayed(url) as (relay_url, relay), hubs(relay_url) as [hub], hubs(url) as [other]:
        relay.lose(Loses.ANSWER, APPEND, then_refuse=True)
        with pytest.raises(HistoryUncertain):
            await hub.publish("a")
        await eventually(lambda: other.told)  # it was taken, and the answer lost
        relay.refuses = False
        await until_taken(hub, "b")
        assert [u.data for u in hub.told] == [b"a", b"b"]


async def test_a_batch_that_was_given_up_is_not_taken_late(server: PostgresServer) -> None:
    url = server.database()
    async with hubs(url) as [hub]:
        await hub.publish("a")
        writer = hub.store._writer
        with (
            psycopg.connect(url) as connection,
            pytest.raises(psycopg.errors.RaiseException, match="was given up"),
        ):
            connection.execute(
                "SELECT callboard_hub.append(%s, 0, 0, '{/t}', '{late}', '{\"\"}', '{\"\"}',"
                " '{f}', '{null}', '{\"\"}', '{\"\"}', '{1}', 1, 1)",
                (writer,),
            )
    assert await texts(url) == ["a"]


async def test_a_server_that_does_not_answer_is_left_and_asked_anew(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connection, "ANSWER_S", 1.5)
    url = server.database()
    async with relayed(url) as (relay_url, relay), hubs(relay_url) as [hub]:
        relay.lose(Loses.BOTH, APPEND)
        [update] = await hub.publish("a")
        assert (update.offset, hub.offsets) == (1, [1])


async def test_a_tail_that_is_not_notified_asks_every_second(server: PostgresServer) -> None:
    url = server.database()
    async with hubs(url) as [deaf], hubs(url) as [hub]:
        await hub.publish("a")
        await eventually(lambda: len(deaf.told) == 1)
        with psycopg.connect(url, autocommit=True) as connection:
            # what is committed, without the function that notifies
            connection.execute(
                "WITH u AS (INSERT INTO callboard_hub.updates SELECT 2, time_ms, prefix, topics,"
                " 'b', type, own_id, private, retry_ms, size FROM callboard_hub.updates)"
                " UPDATE callboard_hub.state SET head = 2"
            )
        await eventually(lambda: len(deaf.told) == len(hub.told) == 2)
        assert deaf.seen == hub.seen


# ---------------------------------------------------------------------------- other histories


async def test_a_database_restored_older_ends_the_hub_and_begins_an_epoch(
    server: PostgresServer,
) -> None:
    url = server.database()
    async with hubs(url) as [hub]:
        await hub.publish("a", "b", "c")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute('DELETE FROM callboard_hub.updates WHERE "offset" > 1')
            connection.execute("UPDATE callboard_hub.state SET head = 1")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'callboard-hub'"
            )
        await eventually(lambda: hub.reasons)
        with pytest.raises(StoreFailed):
            await hub.publish("d")
    assert hub.reasons == ["history: PostgreSQL was restored, or another server took its place"]
    async with hubs(url) as [after]:
        assert [epoch.first for epoch in after.standing.epochs] == [1, 2]
        [update] = await after.publish("e")
        assert update.id == f"#{after.standing.epochs[1].name}.2"


async def test_a_hub_that_starts_on_a_database_restored_older_begins_an_epoch(
    server: PostgresServer, tmp_path: Path
) -> None:
    url = server.database()

    async def firsts(*texts: str) -> list[int]:
        hub = Hub(url, folder=tmp_path)
        await hub.open()
        if texts:
            await hub.publish(*texts)
        await hub.store.close()
        return [epoch.first for epoch in hub.standing.epochs]

    assert await firsts("a", "b", "c") == [1]
    assert await firsts() == [1]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute('DELETE FROM callboard_hub.updates WHERE "offset" > 1')
        connection.execute("UPDATE callboard_hub.state SET head = 1")
    assert await firsts("d") == [1, 2]
    assert await firsts() == [1, 2]
    url = server.database()  # of another history the mark says nothing
    assert await firsts() == [1]


async def test_another_update_where_the_last_one_was_ends_the_hub(server: PostgresServer) -> None:
    url = server.database()
    async with hubs(url) as [hub]:
        await hub.publish("a", "b")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE callboard_hub.updates SET data = 'x' WHERE \"offset\" = 2")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'callboard-hub'"
            )
        await eventually(lambda: hub.reasons)
    async with hubs(url) as [after]:
        assert [epoch.first for epoch in after.standing.epochs] == [1, 3]


async def test_a_promoted_server_that_lost_nothing_begins_an_epoch_and_hubs_go_on(
    server: PostgresServer,
) -> None:
    url = server.database()
    async with hubs(url, 2) as [first, second]:
        await first.publish("a", "b")
        await eventually(lambda: len(second.told) == 2)
        await asyncio.to_thread(server.stop, signal.SIGINT)
        (server.data / "recovery.signal").touch()
        (server.data / "recovery.signal").chmod(0o644)
        server.start("restore_command=false")  # it recovers to the end of what it has
        await eventually(server.answers)
        update = await until_taken(first, "c")
        await eventually(lambda: len(second.told) == 3)
        assert (first.reasons, second.reasons) == ([], [])
        assert second.seen == first.seen
        assert update.offset == 3
        assert update.epoch != first.told[1].epoch
    async with hubs(url) as [after]:
        assert [epoch.first for epoch in after.standing.epochs] == [1, 3]


async def test_updates_trimmed_before_a_hub_had_read_them_end_it(server: PostgresServer) -> None:
    url = server.database()
    keep_one = Retention(Bound(count=1))
    async with relayed(url) as (relay_url, relay), hubs(relay_url) as [away]:
        relay.lose(Loses.BOTH, "FROM callboard_hub.state")
        await eventually(lambda: relay.lost)
        async with hubs(url, 1, keep_one) as [hub]:
            await hub.publish("a", "b", "c")
            await hub.store.trim(NOW_MS)
        relay.cut()
        await eventually(lambda: away.reasons)
        assert away.reasons == ["history: updates were trimmed before this hub had read them"]
        assert away.told == []


async def test_a_hub_that_was_away_is_told_page_by_page(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "TAIL_COUNT", 3)
    url = server.database()
    async with relayed(url) as (relay_url, relay), hubs(relay_url) as [away], hubs(url) as [hub]:
        relay.lose(Loses.BOTH, "FROM callboard_hub.state")
        await eventually(lambda: relay.lost)
        await hub.publish(*"abcdefghij")
        relay.cut()
        await eventually(lambda: away.seen == hub.seen)


async def test_a_hub_that_was_away_is_told_of_a_purge(server: PostgresServer) -> None:
    url = server.database()
    async with relayed(url) as (relay_url, relay), hubs(relay_url) as [away], hubs(url) as [hub]:
        await hub.store.append([draft("1", "/a"), draft("2", "/b")])
        await eventually(lambda: len(away.told) == 2)
        relay.lose(Loses.BOTH, "FROM callboard_hub.state")
        await eventually(lambda: relay.lost)
        await hub.store.append([draft("3", "/a"), draft("4", "/b")])
        await hub.store.purge("/a")
        relay.cut()
        await eventually(lambda: away.purged)
        assert away.purged == [("/a", 4)]
        assert [u.data for u in away.told] == [b"1", b"2", b"4"]
        assert away.reasons == []


async def test_a_hub_that_was_away_for_more_purges_than_are_remembered_leaves(
    server: PostgresServer,
) -> None:
    url = server.database()
    async with relayed(url) as (relay_url, relay), hubs(relay_url) as [away], hubs(url) as [hub]:
        await hub.publish("1", "2")
        await eventually(lambda: len(away.told) == 2)
        relay.lose(Loses.BOTH, "FROM callboard_hub.state")
        await eventually(lambda: relay.lost)
        await hub.store.purge("/t")
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM callboard_hub.purges")
        relay.cut()
        await eventually(lambda: away.reasons)
        assert away.reasons == ["history: more was purged than the server remembers"]


# ---------------------------------------------------------------------------- refusals


async def test_what_the_server_rolls_back_is_refused_and_nothing_of_it_is_there(
    server: PostgresServer,
) -> None:
    url = server.database()
    async with hubs(url) as [hub]:
        with psycopg.connect(url, autocommit=True) as connection:
            for code, name in (("53100", "full"), ("40001", "busy")):
                connection.execute(
                    f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
                    f" $$ BEGIN RAISE '{name}' USING ERRCODE = '{code}'; END $$"
                )
        expected: tuple[tuple[str, type[HistoryError]], ...] = (
            ("full", HistoryFull),
            ("busy", HistoryBusy),
        )
        for name, error in expected:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    f"CREATE TRIGGER t AFTER UPDATE ON callboard_hub.state"
                    f" EXECUTE FUNCTION {name}()"
                )
            with pytest.raises(error, match="PostgreSQL"):
                await hub.publish("refused")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("DROP TRIGGER t ON callboard_hub.state")
        assert [u.offset for u in await hub.publish("taken")] == [1]
    assert await texts(url) == ["taken"]


async def test_a_damaged_index_ends_the_hub(server: PostgresServer) -> None:
    url = server.database()
    async with hubs(url) as [hub]:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "CREATE FUNCTION damage() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE 'bad page' USING ERRCODE = 'XX002'; END $$"
            )
            connection.execute(
                "CREATE TRIGGER t AFTER UPDATE ON callboard_hub.state EXECUTE FUNCTION damage()"
            )
        with pytest.raises(StoreFailed):
            await hub.publish("a")
        [why] = hub.reasons
        assert why.startswith("history: PostgreSQL: bad page")
