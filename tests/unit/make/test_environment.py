"""What make writes into .env."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from make.environment import free_subnet, history, public, read, relay, write


def test_the_first_subnet_is_taken_where_nothing_clashes() -> None:
    assert free_subnet(None, set()) == "10.85.53"


def test_a_clash_moves_on_to_the_next_subnet() -> None:
    assert free_subnet(None, {IPv4Network("10.85.53.0/24")}) == "10.85.54"


def test_a_wider_network_clashes_too() -> None:
    assert free_subnet(None, {IPv4Network("10.85.32.0/19")}) == "10.85.64"


def test_a_subnet_that_was_chosen_before_stays() -> None:
    assert free_subnet("192.168.7", {IPv4Network("10.85.53.0/24")}) == "192.168.7"


def test_a_subnet_that_was_chosen_before_is_left_where_it_clashes() -> None:
    assert free_subnet("192.168.7", {IPv4Network("192.168.0.0/16")}) == "10.85.53"


def test_no_free_subnet_is_said_to_the_user() -> None:
    with pytest.raises(SystemExit, match="set SUBNET"):
        free_subnet(None, {IPv4Network("10.0.0.0/8")})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    values = {"SUBNET": "10.85.60", "BASE_IMAGE": "an/image:tag"}
    write(tmp_path / ".env", values)
    assert read(tmp_path / ".env") == values


def test_comments_and_blank_lines_are_no_values(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# A=1\n\n B = 2 \n")
    assert read(tmp_path / ".env") == {"B": "2"}


def test_an_absent_file_has_no_values(tmp_path: Path) -> None:
    assert read(tmp_path / ".env") == {}


def test_an_unchanged_file_is_not_written_again(tmp_path: Path) -> None:
    write(tmp_path / ".env", {"A": "1"})
    (tmp_path / ".env").chmod(0o444)
    before = (tmp_path / ".env").stat().st_mtime_ns
    write(tmp_path / ".env", {"A": "1"})
    assert (tmp_path / ".env").stat().st_mtime_ns == before


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PUBLIC_HOST", "PUBLIC_BIND", "HUB_STORE", "TURN_HOST", "COMPOSE_PROFILES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["cam.example.org", "203.0.113.9", "2001:db8::9", "box"])
def test_a_public_host_publishes_the_file_server_everywhere(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("PUBLIC_HOST", host)
    assert public({}) == {"PUBLIC_HOST": host, "PUBLIC_BIND": "0.0.0.0"}


def test_a_public_host_stays_until_it_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"PUBLIC_HOST": "cam.example.org", "PUBLIC_BIND": "0.0.0.0"}
    assert public(kept) == kept
    monkeypatch.setenv("PUBLIC_HOST", "")
    assert public(kept) == {"PUBLIC_HOST": "", "PUBLIC_BIND": ""}


def test_an_address_of_the_users_own_choice_stays() -> None:
    kept = {"PUBLIC_HOST": "cam.example.org", "PUBLIC_BIND": "192.168.1.5"}
    assert public(kept) == kept
    assert public({"PUBLIC_BIND": "192.168.1.5"}) == {"PUBLIC_BIND": "192.168.1.5"}


def test_nothing_is_published_without_a_public_host() -> None:
    assert public({}) == {}


@pytest.mark.parametrize("host", ["https://a", "a:1443", "a b", "a\nB=c", "-a", "[::1]", "a/b"])
def test_what_is_no_public_host_is_told(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("PUBLIC_HOST", host)
    with pytest.raises(SystemExit, match="without scheme and port"):
        public({})


STORE = "postgresql://hub@postgres/hub"


def test_a_history_in_the_stacks_postgres_brings_its_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUB_STORE", STORE)
    assert history({}) == {"HUB_STORE": STORE, "COMPOSE_PROFILES": "postgres"}
    both = {"HUB_STORE": STORE, "COMPOSE_PROFILES": "turn,postgres"}
    assert history({"COMPOSE_PROFILES": "turn"}) == both
    monkeypatch.delenv("HUB_STORE")
    assert history(both) == both


def test_a_history_elsewhere_has_no_profile_and_other_profiles_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = "postgresql://hub:secret@db.example/hub"
    monkeypatch.setenv("HUB_STORE", elsewhere)
    kept = {"HUB_STORE": STORE, "COMPOSE_PROFILES": "turn,postgres"}
    assert history(kept) == {"HUB_STORE": elsewhere, "COMPOSE_PROFILES": "turn"}
    monkeypatch.setenv("HUB_STORE", "")
    assert history(kept) == {"HUB_STORE": "", "COMPOSE_PROFILES": "turn"}


def test_without_a_history_nothing_is_written_of_it() -> None:
    assert history({}) == {}


def test_a_host_of_turn_brings_its_profile_until_it_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert relay({}) == relay({"COMPOSE_PROFILES": "turn"}) == {}
    monkeypatch.setenv("TURN_HOST", "localhost")
    both = {"TURN_HOST": "localhost", "COMPOSE_PROFILES": "postgres,turn"}
    assert relay({"COMPOSE_PROFILES": "postgres"}) == both
    monkeypatch.delenv("TURN_HOST")
    assert relay(both) == both
    monkeypatch.setenv("TURN_HOST", "")
    assert relay(both) == {"TURN_HOST": "", "COMPOSE_PROFILES": "postgres"}


@pytest.mark.parametrize("host", ["turn:a", "a:3478", "::1", "a b", "a?b"])
def test_what_is_no_host_of_turn_is_told(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("TURN_HOST", host)
    with pytest.raises(SystemExit, match="a name or an IPv4 address"):
        relay({})
