"""The ICE-lite agent: who is believed, which way media go, and when a peer has gone."""

from __future__ import annotations

from aioice import stun
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.ice.requests import OTHERS, OURS, Way, check, code_of, plain

from callboard.gateway.ice import binding
from callboard.gateway.ice.agent import CONSENT_S, PAIRS_MAX, STALE_S, Agent
from callboard.gateway.ports import Pair


def test_nomination_selects_a_pair() -> None:
    agent, way = Agent(OURS), Way()
    checked = agent.check(check(nominate=True), way, 1.0)
    assert checked.valid
    assert code_of(checked.answer) is None
    assert stun.parse_message(checked.answer).check_message_integrity(OURS.key)
    assert agent.selected is way


def test_valid_check_without_nomination_selects_nothing() -> None:
    agent, way = Agent(OURS), Way()
    assert agent.check(check(), way, 1.0).valid
    assert agent.selected is None
    assert agent.pairs == (way,)


def test_checks_after_nomination_are_answered() -> None:
    agent, way = Agent(OURS), Way()
    agent.check(check(nominate=True), way, 1.0)
    assert agent.check(check(), way, 2.0).valid
    assert agent.selected is way


def test_last_nomination_wins() -> None:
    agent, first, second = Agent(OURS), Way(), Way()
    for at, way in enumerate((first, second, first)):
        agent.check(check(nominate=True), way, float(at))
        assert agent.selected is way


def test_wrong_password_is_unauthenticated_and_changes_nothing() -> None:
    agent, way = Agent(OURS), Way()
    checked = agent.check(check(key=b"wrong", nominate=True), way, 1.0)
    assert code_of(checked.answer) == 401
    assert not checked.authentic
    assert not checked.valid
    assert agent.selected is None
    assert agent.pairs == ()
    assert agent.deadline is None


def test_username_of_another_is_unauthenticated() -> None:
    for username in ("another:them", OURS.ufrag, "", f"x{OURS.ufrag}:them"):
        request = check(username=username or ":")
        assert code_of(Agent(OURS).check(request, Way(), 1.0).answer) == 401


def test_request_without_integrity_is_bad() -> None:
    request = binding.parse(plain(USERNAME=f"{OURS.ufrag}:them"))
    assert isinstance(request, binding.Request)
    checked = Agent(OURS).check(request, Way(), 1.0)
    assert code_of(checked.answer) == 400
    assert not checked.authentic


def test_unknown_attribute_that_must_be_understood_is_refused() -> None:
    agent = Agent(OURS)
    checked = agent.check(check(extra=((0x0031, b"x"),), nominate=True), Way(), 1.0)
    assert code_of(checked.answer) == 420
    assert agent.selected is None


def test_unknown_attribute_of_a_stranger_tells_him_nothing() -> None:
    request = check(extra=((0x0031, b"x"),), key=b"wrong")
    assert code_of(Agent(OURS).check(request, Way(), 1.0).answer) == 401


def test_controlled_peer_is_told_of_the_conflict() -> None:
    agent = Agent(OURS)
    request = check(attributes={"ICE-CONTROLLED": 5}, nominate=True)
    checked = agent.check(request, Way(), 1.0)
    assert code_of(checked.answer) == 487
    assert stun.parse_message(checked.answer).check_message_integrity(OURS.key)
    assert agent.selected is None


def test_consent_lasts_thirty_seconds_from_the_last_valid_check() -> None:
    agent, way = Agent(OURS), Way()
    agent.check(check(), way, 10.0)
    assert agent.deadline == 10.0 + CONSENT_S
    agent.check(check(), way, 20.0)
    agent.check(check(key=b"wrong"), way, 30.0)
    assert agent.deadline == 20.0 + CONSENT_S


def test_old_credentials_are_good_until_the_first_check_with_new_ones() -> None:
    agent, way = Agent(OURS), Way()
    agent.check(check(nominate=True), way, 1.0)
    assert agent.restart(OTHERS) is None
    assert set(agent.ufrags) == {OURS.ufrag, OTHERS.ufrag}
    assert agent.check(check(OURS), way, 2.0).valid
    checked = agent.check(check(OTHERS), way, 3.0)
    assert checked.valid
    assert checked.retired == OURS.ufrag
    assert stun.parse_message(checked.answer).check_message_integrity(OTHERS.key)
    assert agent.ufrags == (OTHERS.ufrag,)
    assert code_of(agent.check(check(OURS), way, 4.0).answer) == 401
    assert agent.selected is way


def test_invalid_check_with_new_credentials_retires_nothing() -> None:
    agent = Agent(OURS)
    agent.restart(OTHERS)
    assert agent.check(check(OTHERS, key=b"wrong"), Way(), 1.0).retired is None
    assert agent.check(check(OURS), Way(), 1.0).valid


def test_second_restart_gives_up_the_oldest_credentials() -> None:
    agent = Agent(OURS)
    agent.restart(OTHERS)
    third = type(OURS)("thirdone", "third-password-of-24-cha")
    assert agent.restart(third) == OURS.ufrag
    assert set(agent.ufrags) == {OTHERS.ufrag, third.ufrag}


def test_lost_pair_gives_way_to_the_nominated_one_checked_last() -> None:
    agent = Agent(OURS)
    ways = [Way() for _ in range(3)]
    for at, way in enumerate(ways):
        agent.check(check(nominate=True), way, float(at))
    agent.check(check(), ways[0], 5.0)
    unnominated = Way()
    agent.check(check(), unnominated, 6.0)
    agent.lose(ways[2])
    assert agent.selected is ways[0]
    agent.lose(ways[0])
    assert agent.selected is ways[1]
    agent.lose(ways[1])
    assert agent.selected is None


def test_silent_selected_pair_gives_way_to_a_checked_nominated_one() -> None:
    agent, kept_up, silent = Agent(OURS), Way(), Way()
    agent.check(check(nominate=True), kept_up, 0.0)
    agent.check(check(nominate=True), silent, 0.1)
    agent.check(check(), kept_up, STALE_S)
    assert agent.selected is silent
    agent.check(check(), kept_up, STALE_S + 0.2)
    assert agent.selected is kept_up


def test_pair_beyond_the_bound_replaces_the_one_checked_longest_ago() -> None:
    agent = Agent(OURS)
    ways = [Way() for _ in range(PAIRS_MAX)]
    for at, way in enumerate(ways):
        agent.check(check(nominate=at == 0), way, float(at))
    more = Way()
    checked = agent.check(check(), more, 99.0)
    assert checked.forgotten is ways[1], "the selected one stays"
    assert len(agent.pairs) == PAIRS_MAX
    assert more in agent.pairs


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.booleans(), st.sampled_from(["good", "bad", "lose", "restart"])
        ),
        max_size=120,
    )
)
def test_media_go_only_by_pairs_that_passed_a_nominating_check(
    steps: list[tuple[int, bool, str]],
) -> None:
    agent, credentials = Agent(OURS), OURS
    ways = [Way() for _ in range(41)]
    nominated: set[Pair] = set()
    for now, (number, nominate, what) in enumerate(steps):
        way = ways[number]
        if what == "lose":
            agent.lose(way)
            nominated.discard(way)
        elif what == "restart":
            credentials = OTHERS if credentials is OURS else OURS
            agent.restart(credentials)
        else:
            key = None if what == "good" else b"wrong"
            checked = agent.check(check(credentials, nominate=nominate, key=key), way, float(now))
            assert checked.valid is (what == "good")
            if checked.forgotten is not None:
                nominated.discard(checked.forgotten)
            if what == "good" and nominate:
                nominated.add(way)
                assert agent.selected is way
        assert agent.selected is None or agent.selected in nominated
        assert len(agent.pairs) <= PAIRS_MAX
