"""Webhooks in: from the file that describes them to the updates that they become."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.harness.mercure_hub import local_hub

from callboard.hub.http.hooks import load_hooks
from callboard.hub.mercure.webhooks import BadHook

SECRET = b"0123456789abcdef0123"
CI: dict[str, Any] = {
    "style": "github",
    "secret_file": "ci.secret",
    "topic": "/ci/{event}",
    "type": "{event}",
}


def written(folder: Path, told: object) -> Path:
    """The file, and the secret beside it."""
    (folder / "ci.secret").write_bytes(SECRET + b"\n")
    path = folder / "hooks.json"
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    return path


def signed(body: bytes, delivery: str = "", event: str = "push") -> dict[str, str]:
    mac = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={mac}", "X-GitHub-Event": event}
    return headers | ({"X-GitHub-Delivery": delivery} if delivery else {})


async def test_what_another_service_tells_is_an_update(tmp_path: Path) -> None:
    hooks = load_hooks(written(tmp_path, {"ci": CI}))
    async with local_hub(tmp_path / "hub", hooks=hooks) as local:
        hub, body = local.hub, b'{"ref": "main"}'
        async with hub.stream(("match", "/ci/push")) as stream:
            answer = await hub.ask("POST", "/hooks/ci", data=body, headers=signed(body))
            event = await stream.message()
    assert (answer.status, answer.text) == (200, f"{event.id}\n")
    assert (event.data, event.type) == (body.decode(), "push")


async def test_what_is_sent_again_is_published_once(tmp_path: Path) -> None:
    hooks = load_hooks(written(tmp_path, {"ci": CI}))
    async with local_hub(tmp_path / "hub", hooks=hooks) as local:
        for delivery in ("d1", "d1", "d2"):
            headers = signed(b"{}", delivery)
            await local.hub.ask("POST", "/hooks/ci", data=b"{}", headers=headers)
        assert local.history.head == 2


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/hooks/ci", "POST", b"forged", 401),
        ("/hooks/other", "POST", b"{}", 404),
        ("/hooks/", "POST", b"{}", 404),
        ("/hooks/ci/x", "POST", b"{}", 404),
        ("/hooks/ci", "GET", b"", 405),
        ("/hooks/ci", "POST", b"x" * 300_000, 413),
    ],
)
async def test_all_else_is_refused_and_publishes_nothing(
    tmp_path: Path, path: str, method: str, body: bytes, status: int
) -> None:
    hooks = load_hooks(written(tmp_path, {"ci": CI}))
    async with local_hub(tmp_path / "hub", hooks=hooks) as local:
        headers = signed(b"{}")
        answer = await local.hub.ask(method, path, data=body or None, headers=headers)
        assert answer.status == status
        assert local.history.head == 0


async def test_a_body_that_is_no_utf_8_is_refused_though_it_is_signed(tmp_path: Path) -> None:
    hooks = load_hooks(written(tmp_path, {"ci": CI}))
    async with local_hub(tmp_path / "hub", hooks=hooks) as local:
        answer = await local.hub.ask("POST", "/hooks/ci", data=b"\xff", headers=signed(b"\xff"))
        assert answer.status == 400


async def test_why_a_webhook_was_refused_is_in_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = load_hooks(written(tmp_path, {"ci": CI}))
    async with local_hub(tmp_path / "hub", hooks=hooks) as local:
        with caplog.at_level(logging.WARNING):
            answer = await local.hub.ask("POST", "/hooks/ci", data=b"x", headers=signed(b"y"))
    assert answer.text == "the signature is not right\n"
    (line,) = [one for one in caplog.records if one.message == "webhook refused"]
    assert vars(line)["hook"] == "ci"
    assert "signature" in vars(line)["reason"]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("{", "hooks.json"),
        ("[]", "object"),
        ("[" * 100_000, "hooks.json"),
        ({"ci": []}, "object"),
        ({"a/b": CI}, "name"),
        ({"": CI}, "name"),
        ({"ci": {**CI, "style": "gitea"}}, "style"),
        ({"ci": {**CI, "secret": "x"}}, "secret"),
        ({"ci": {**CI, "secret_file": "missing"}}, "missing"),
        ({"ci": {**CI, "topic": 5}}, "topic"),
        ({"ci": {**CI, "topic": ""}}, "topic"),
        ({"ci": {**CI, "topic": "/{branch}"}}, "branch"),
        ({"ci": {**CI, "topic": "/catalog/services/x"}}, "catalog"),
        ({"ci": {**CI, "type": "hub.gap"}}, "hub.gap"),
        ({"ci": {"style": "github", "topic": "/a"}}, "secret_file"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_reason(
    tmp_path: Path, told: object, why: str
) -> None:
    with pytest.raises(BadHook, match=why):
        load_hooks(written(tmp_path, told))


def test_a_secret_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"ci": CI})
    (tmp_path / "ci.secret").write_bytes(b"short\n")
    with pytest.raises(BadHook, match="secret"):
        load_hooks(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadHook, match=r"none\.json"):
        load_hooks(tmp_path / "none.json")
