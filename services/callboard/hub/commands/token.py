"""Sign a token that a hub takes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.settings import SettingsError, duration_s
from callboard.chassis.verbs import Failed, UsageError, call
from callboard.hub.auth import keys, tokens
from callboard.hub.auth.keys import BadKey, Key
from callboard.hub.matching import queries
from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.urls import HUB_URL
from callboard.hub.settings import DATA

DRAFTS = {"07": 7, "7": 7, "08": 8, "8": 8}

FLAGS = FlagSet(
    """Usage: callboard hub token [options]

  Sign a token, and print it. What is read is public to everybody: a token is needed to publish,
  and to read what was published as private.

  $ export TOKEN=$(callboard hub token -publish '*')
  $ curl -H "Authorization: Bearer $TOKEN" -d topic=/builds -d data=done \\
      http://127.0.0.1:8800/.well-known/mercure
  $ callboard hub token -subscribe '/builds/{id}' -expires 24h""",
    [
        flags.repeated("publish", "A topic to publish to; * is all."),
        flags.repeated("subscribe", "A topic to read private updates of; * is all."),
        flags.text("draft", "Of Mercure: 07 (any 0.x client; topics may be URI templates) or 08 "
                   "(an access token).", "07"),
        flags.text("match-type", "What topics are in draft 08: exact or urlpattern.", "exact"),
        flags.text("expires", "Time until it does; 0s (draft 07 only) is never.", "1h"),
        flags.text("subject", "Whose it is (sub)."),
        flags.text("payload", "JSON that others see of this token's subscriptions; an "
                   "object in draft 08."),
        flags.text("issuer", "Who signs it (iss, draft 08).", "callboard"),
        flags.text("resource", "The hub it is for (aud, draft 08).", HUB_URL),
        flags.text("key", "Key to sign with: a secret or a private PEM key."),
        flags.text("data-dir", "The hub's data directory, for the keys that it made.", DATA),
    ],
)  # fmt: skip


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard hub token`."""
    return call(FLAGS, argv, _token)


def _token(parsed: Parsed) -> int:
    if parsed.args:
        raise UsageError(f"unexpected argument {parsed.args[0]!r}")
    if parsed.text("draft") not in DRAFTS:
        raise UsageError(f"-draft is 07 or 08, not {parsed.text('draft')!r}")
    draft = DRAFTS[parsed.text("draft")]
    if not parsed.given("publish") and not parsed.given("subscribe"):
        raise UsageError("a token is good for something: -publish TOPIC, -subscribe TOPIC")
    for topic in (*parsed.values("publish"), *parsed.values("subscribe")):
        _check_topic(topic, parsed.text("match-type"), draft)
    claims = _claims(parsed, draft)
    try:
        token = tokens.sign(_key(parsed), claims, access_token=draft == 8)
    except ValueError as problem:
        raise Failed(str(problem)) from problem
    if len(token) > tokens.TOKEN_BYTES_MAX:
        raise Failed(f"the token has {len(token)} bytes; a hub takes {tokens.TOKEN_BYTES_MAX}")
    print(token)
    return 0


def _check_topic(topic: str, match_type: str, draft: int) -> None:
    """What the hub would refuse is not signed."""
    try:
        if draft == 8:
            queries.matcher(match_type, topic)
        else:
            queries.legacy_matcher(topic)
    except Refused as refused:
        raise UsageError(refused.text) from refused


def _claims(parsed: Parsed, draft: int) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    now = int(time.time())
    try:
        life_s = duration_s(parsed.text("expires"), "expires")
    except SettingsError as problem:
        raise UsageError(str(problem)) from problem
    if life_s:
        claims |= {"iat": now, "exp": now + max(1, round(life_s))}
    elif draft == 8:
        raise UsageError("a token of draft 08 expires")
    if parsed.text("subject"):
        claims["sub"] = parsed.text("subject")
    granted = {
        action: list(parsed.values(action))
        for action in (tokens.PUBLISH, tokens.SUBSCRIBE)
        if parsed.given(action)
    }
    payload = {"payload": _payload(parsed, draft)} if parsed.text("payload") else {}
    if draft == 7:
        return claims | {"mercure": granted | payload}
    type = parsed.text("match-type")
    details = [
        {
            "type": tokens.DETAIL_TYPE,
            "actions": [action],
            "topics": [{"match": topic, "match_type": type} for topic in topics],
        }
        | (payload if action == tokens.SUBSCRIBE else {})
        for action, topics in granted.items()
    ]
    return claims | {
        "iss": parsed.text("issuer"),
        "aud": parsed.text("resource"),
        "authorization_details": details,
    }


def _payload(parsed: Parsed, draft: int) -> object:
    try:
        payload: object = json.loads(parsed.text("payload"))
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"-payload is no JSON: {problem}") from problem
    if draft == 8 and not isinstance(payload, dict):
        raise UsageError("-payload is no JSON object, as draft 08 wants it")
    return payload


def _key(parsed: Parsed) -> Key:
    """The key to sign with. Raises Failed."""
    try:
        if parsed.text("key"):
            return keys.read(Path(parsed.text("key")))
        both = keys.load(Path(parsed.text("data-dir")))
    except (BadKey, OSError) as problem:
        raise Failed(str(problem)) from problem
    if not parsed.given("publish"):
        return both.subscriber
    if parsed.given("subscribe") and both.publisher != both.subscriber:
        raise Failed("publishers and readers have a key each: ask for two tokens, or give -key")
    return both.publisher
