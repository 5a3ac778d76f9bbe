"""`callboard hub token`: what it signs is what a hub takes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from callboard.hub.auth import keys
from callboard.hub.auth.keys import Key
from callboard.hub.auth.tokens import Trust, Verifier, payload_of
from callboard.hub.commands import token as command
from callboard.hub.matching.matchers import exact
from callboard.hub.matching.urls import HUB_URL
from callboard.hub.ports import Rights


def signed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert command.run(argv, {}) == 0
    return capsys.readouterr().out.strip()


def failed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert command.run(argv, {}) == 1
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err


def verify(key: Key, action: str, token: str) -> Rights:
    return Verifier(key, action, Trust()).verify(token, time.time())


@pytest.mark.parametrize("draft", ["07", "08"])
def test_a_token_publishes_with_the_key_that_the_hub_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], draft: str
) -> None:
    token = signed(capsys, "-data-dir", str(tmp_path), "-publish", "/a", "-draft", draft)
    rights = verify(keys.load(tmp_path).publisher, "publish", token)
    assert rights.draft == int(draft)
    assert rights.publish is not None
    assert rights.publish.covers(("/a",), True)
    assert not rights.publish.covers(("/b",), True)
    assert rights.expires_at is not None
    assert 3500 < rights.expires_at - time.time() <= 3600


@pytest.mark.parametrize("draft", ["07", "08"])
def test_a_token_reads_with_the_subscribers_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], draft: str
) -> None:
    argv = ["-data-dir", str(tmp_path), "-subscribe", "*", "-draft", draft, "-subject", "ada"]
    token = signed(capsys, *argv, "-payload", '{"x": 1}', "-expires", "10m")
    rights = verify(keys.load(tmp_path).subscriber, "subscribe", token)
    assert rights.subscribe is not None
    assert rights.subscribe.allow("/anything")
    assert rights.subject == "ada"
    assert payload_of(rights, exact("/b")) == {"x": 1}


def test_a_token_of_draft_08_may_hold_url_patterns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["-data-dir", str(tmp_path), "-draft", "08", "-match-type", "urlpattern"]
    token = signed(capsys, *argv, "-subscribe", "/builds/:id")
    rights = verify(keys.load(tmp_path).subscriber, "subscribe", token)
    assert rights.subscribe is not None
    assert rights.subscribe.allow("/builds/7")


def test_one_key_of_ones_own_signs_for_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.pem"
    path.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    token = signed(capsys, "-key", str(path), "-publish", "*", "-subscribe", "*", "-expires", "0s")
    key = keys.read(path)
    assert verify(key, "publish", token).publish is not None
    assert verify(key, "subscribe", token).subscribe is not None
    assert verify(key, "subscribe", token).expires_at is None


def test_a_public_key_signs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.pem"
    path.write_bytes(
        pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert "private one" in failed(capsys, "-key", str(path), "-publish", "*")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "-publish TOPIC"),
        (["-publish", "/a", "more"], "unexpected argument"),
        (["-publish", "/a", "-draft", "09"], "-draft is 07 or 08"),
        (["-publish", "/a", "-draft", "08", "-expires", "0s"], "expires"),
        (["-publish", "/a", "-expires", "soon"], "-expires"),
        (["-publish", "/a", "-payload", "{"], "no JSON"),
        (["-subscribe", "/a", "-payload", "[1]", "-draft", "08"], "no JSON object"),
        (["-subscribe", "/a", "-payload", "null", "-draft", "8"], "no JSON object"),
        (["-publish", ""], "empty"),
        (["-publish", "/{x:3}"], "prefixes"),
        (["-publish", "(", "-draft", "08", "-match-type", "urlpattern"], "URL pattern"),
        (["-publish", "/a", "-draft", "08", "-match-type", "regexp"], "matcher type"),
        (["-publish", "/a", "-subscribe", "/a"], "two tokens"),
        (["-publish", "/a", "-payload", f'"{"x" * 9000}"'], "bytes"),
        (["-publish", "/a", "-key", "/nowhere/at/all"], "nowhere"),
    ],
)
def test_what_no_hub_would_take_is_not_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], reason: str
) -> None:
    assert reason in failed(capsys, "-data-dir", str(tmp_path), *argv)


def test_the_help_says_how_to_publish_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Authorization: Bearer" in signed(capsys, "-h")
    assert HUB_URL in str(command.FLAGS.flags["resource"].default)
