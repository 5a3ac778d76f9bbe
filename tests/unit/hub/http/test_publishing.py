"""Publishing: what a history that refuses becomes, rates, and publishers that leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.mercure_hub import local_hub
from yarl import URL

from callboard.hub.auth.rates import Rates
from callboard.hub.event import Publication, Update
from callboard.hub.http.frame import answer_to
from callboard.hub.http.ports import Door
from callboard.hub.http.publish import Publishing
from callboard.hub.ports import HistoryBusy, HistoryError, HistoryFull, HistoryUncertain, Taken
from callboard.serve import Answer


class Waiting:
    """The publishing half of a history: it answers when a test says so."""

    def __init__(self) -> None:
        self.submitted: list[tuple[Publication, Taken]] = []

    def submit(self, publication: Publication, taken: Taken) -> None:
        self.submitted.append((publication, taken))


class Refusing(Waiting):
    """One that refuses within the call."""

    def submit(self, publication: Publication, taken: Taken) -> None:
        raise HistoryBusy


PUBLICATION = Publication(("/a",), b"x")


def publishing(history: Waiting) -> tuple[Publishing, list[Answer]]:
    """A publication that has been started, and what was answered."""
    answers: list[Answer] = []
    parked = Publishing(history, PUBLICATION, b"\n")  # type: ignore[arg-type]
    parked.start(answers.append)
    return parked, answers


def test_a_publication_is_answered_once_it_was_taken() -> None:
    history = Waiting()
    _, answers = publishing(history)
    assert not answers
    (_, taken) = history.submitted[0]
    taken(Update(7, "e1", 0, PUBLICATION))
    assert [(one.status, one.body) for one in answers] == [(200, b"#e1.7\n")]


@pytest.mark.parametrize(
    ("problem", "status", "retry_after"),
    [
        (HistoryFull("full"), 507, None),
        (HistoryBusy("busy"), 503, "1"),
        (HistoryError(), 503, "5"),
        (HistoryUncertain("the store went away"), 504, None),
    ],
)
def test_a_history_that_refuses_has_its_status(
    problem: HistoryError, status: int, retry_after: str | None
) -> None:
    history = Waiting()
    _, (answers) = publishing(history)
    history.submitted[0][1](problem)
    assert answers[0].status == status
    assert dict(answers[0].headers).get("Retry-After") == retry_after
    assert answers[0].body.strip()


def test_who_may_have_published_is_told_so_and_not_asked_to_publish_again() -> None:
    history = Waiting()
    _, answers = publishing(history)
    history.submitted[0][1](HistoryUncertain("the store went away"))
    assert b"the store went away: it may have been published" in answers[0].body
    assert b"Idempotency-Key" in answers[0].body


def test_a_history_may_refuse_at_once() -> None:
    _, answers = publishing(Refusing())
    assert answers[0].status == 503


def test_a_publisher_that_left_is_not_answered_and_has_published() -> None:
    history = Waiting()
    parked, answers = publishing(history)
    parked.cancel()
    history.submitted[0][1](Update(1, "e1", 0, PUBLICATION))
    assert not answers
    assert history.submitted


def test_a_mistake_of_ours_is_500_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answer = answer_to(LookupError("secret"))
    assert (answer.status, answer.body) == (500, b"internal server error\n")
    assert "request failed" in caplog.text


async def test_a_token_that_publishes_too_fast_is_told_when_to_go_on(tmp_path: Path) -> None:
    async with local_hub(tmp_path, rates=Rates(0.001, 2.0)) as local:
        hub = local.hub
        fast, other = hub.token(publish=["*"], sub="fast"), hub.token(publish=["*"], sub="other")
        statuses = [(await hub.publish(("topic", "/a"), token=fast)).status for _ in range(2)]
        assert statuses == [200, 200]
        for path in ("/.well-known/mercure", "/t/a"):
            form = {"topic": "/a"}
            answer = await hub.ask("POST", path, data=form, token=fast)
            assert answer.status == 429
            assert 900 <= int(answer.headers["Retry-After"]) <= 1000
        assert (await hub.publish(("topic", "/a"), token=other)).status == 200
        assert local.history.head == 3


async def test_what_is_published_is_there_although_its_publisher_left(tmp_path: Path) -> None:
    async with local_hub(tmp_path, door=Door(open=True)) as local:
        async with local.hub.stream(path="/t/a", method="POST", data=b"x"):
            pass
        await eventually(lambda: local.history.head == 1)


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_both_ways_publish_the_same(tmp_path: Path, fast_lane: bool) -> None:
    async with local_hub(tmp_path, door=Door(open=True), fast_lane=fast_lane) as local:
        hub = local.hub
        answers = [
            await hub.ask("POST", "/t/a?id=urn:x:1", data=b"x"),
            await hub.ask("POST", "/t/a?id=%23", data=b"x"),
            await hub.ask("POST", data={"topic": "/a"}),
            await hub.ask("POST", "/nowhere", data=b"x"),
            await hub.ask("POST", "/hooks/nobody", data=b"x"),
        ]
        assert [answer.status for answer in answers] == [200, 400, 401, 404, 404]
        for answer in answers:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_parameters_are_read_as_forms_are_both_ways(tmp_path: Path, fast_lane: bool) -> None:
    """As URLSearchParams has them: what Go would leave out (`private`!) counts."""
    async with local_hub(tmp_path, door=Door(open=True), fast_lane=fast_lane) as local:
        for query, status in (
            ("private=50%", 200),
            ("private=a;b", 200),
            ("id=a;b", 200),
            ("id=%zz", 200),
            ("type=%ff", 400),
        ):
            url = URL(f"{local.hub.url('/t/a')}?{query}", encoded=True)
            async with local.hub.session.post(url, data=b"x") as response:
                assert response.status == status
        told = await local.history.read(0, 1 << 20)
        assert [one.private for one in told] == [True, True, False, False]
        assert [one.own_id for one in told] == ["", "", "a;b", "%zz"]
