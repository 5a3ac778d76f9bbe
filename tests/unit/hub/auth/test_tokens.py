"""What a token is good for; and every way in which one is wrong (RFC 8725, RFC 9068, 9396)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.auth import tokens
from callboard.hub.auth.keys import Key, PrivateKey, of_secret
from callboard.hub.auth.tokens import BadToken, Trust, Verifier, payload_of
from callboard.hub.matching.matchers import exact, urlpattern

NOW = 1_800_000_000.0
SECRET = b"a secret of more than 32 bytes, for tests"
KEY = of_secret(SECRET)
TRUST = Trust("https://hub.example.com/.well-known/mercure")


def legacy(key: Key = KEY, **claims: Any) -> str:
    return tokens.sign(key, claims, access_token=False)


def detail(*actions: str, topics: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    topics = topics if topics is not None else [{"match": "/a"}]
    return {"type": tokens.DETAIL_TYPE, "actions": list(actions), "topics": topics, **more}


def current(*details: Any, **claims: Any) -> str:
    whole: dict[str, Any] = {
        "iss": "https://issuer.example.com",
        "aud": TRUST.resource,
        "exp": NOW + 60,
        "authorization_details": list(details),
    } | claims
    whole = {name: value for name, value in whole.items() if value is not ...}
    return raw({"alg": "HS256", "typ": "at+jwt"}, whole)


def raw(header: object, payload: object, sign: bool = True) -> str:
    """A token whose parts are what they are: bytes, or JSON of anything."""
    parts = [
        base64.urlsafe_b64encode(
            part if isinstance(part, bytes) else json.dumps(part).encode()
        ).rstrip(b"=")
        for part in (header, payload)
    ]
    text = b".".join(parts)
    signature = hmac.new(SECRET, text, hashlib.sha256).digest() if sign else b""
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def verify(token: str, action: str = "subscribe", now: float = NOW, trust: Trust = TRUST) -> Any:
    return Verifier(KEY, action, trust).verify(token, now)


def refused(token: str, action: str = "subscribe", now: float = NOW, trust: Trust = TRUST) -> str:
    with pytest.raises(BadToken) as problem:
        verify(token, action, now, trust)
    return str(problem.value)


# ---------------------------------------------------------------- drafts up to 07


def test_a_legacy_token_lists_topic_selectors() -> None:
    token = legacy(mercure={"publish": ["*"], "subscribe": ["/a", "/b/{id}"], "payload": {"x": 1}})
    reads = verify(token)
    assert reads.draft == 7
    assert reads.publish is None
    assert reads.subscribe.allow("/a")
    assert reads.subscribe.allow("/b/7")
    assert not reads.subscribe.allow("/c")
    assert reads.payload == {"x": 1}
    assert reads.expires_at is None
    assert verify(token, "publish").publish.allow("/anything")


def test_a_legacy_token_without_a_list_grants_nothing() -> None:
    assert verify(legacy(mercure={}), "publish").publish is None
    assert verify(legacy(mercure={"publish": None}), "publish").publish is None


def test_an_empty_legacy_list_publishes_public_updates_only() -> None:
    grants = verify(legacy(mercure={"publish": []}), "publish").publish
    assert grants.covers(("/a",), False)
    assert not grants.covers(("/a",), True)
    assert not verify(legacy(mercure={"subscribe": []})).subscribe.allow("/a")


def test_a_legacy_token_needs_no_audience_and_obeys_exp() -> None:
    token = legacy(mercure={}, exp=NOW + 10, aud="somebody else", iss="anybody", sub="ada")
    assert verify(token).expires_at == NOW + 10
    assert verify(token).subject == "ada"
    assert refused(token, now=NOW + 10) == "expired"


@pytest.mark.parametrize(
    "mercure",
    [
        None,
        [],
        "x",
        {"subscribe": "*"},
        {"subscribe": [1]},
        {"subscribe": [{"match": "/a"}]},
        {"subscribe": {"a": 1}},
        {"subscribe": [""]},
        {"subscribe": ["{x:3}"]},
        {"subscribe": ["a\0"]},
        {"subscribe": [f"/{n}" for n in range(tokens.MATCHERS_MAX + 1)]},
    ],
)
def test_a_malformed_legacy_claim_makes_the_token_bad(mercure: object) -> None:
    refused(legacy(mercure=mercure))


# ---------------------------------------------------------------- draft 08


def test_an_access_token_lists_topic_matchers() -> None:
    topics = [{"match": "/a"}, {"match": "/b/:id", "match_type": "urlpattern"}]
    token = current(detail("subscribe", topics=topics), detail("publish", topics=[{"match": "*"}]))
    reads = verify(token)
    assert reads.draft == 8
    assert reads.subscribe.allow("/a")
    assert reads.subscribe.allow("/b/7")
    assert not reads.subscribe.allow("/c")
    assert reads.expires_at == NOW + 60
    assert verify(token, "publish").publish.allow("/c")


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_the_type_of_an_access_token_is_compared_without_case(typ: str) -> None:
    claims = {"iss": "i", "aud": [TRUST.resource, "x"], "exp": NOW + 1}
    assert verify(jwt.encode(claims, SECRET, "HS256", {"typ": typ})).draft == 8


def test_a_star_is_every_topic_under_every_type() -> None:
    topics = [{"match": "*", "match_type": "urlpattern"}]
    assert verify(current(detail("subscribe", topics=topics))).subscribe.allow("urn:x")


def test_unknown_actions_and_other_details_grant_nothing_and_harm_nothing() -> None:
    other = {"type": "payment", "actions": 7}
    reads = verify(current(other, detail("administer"), detail("subscribe", "dance")))
    assert reads.subscribe.allow("/a")
    assert verify(current(other, detail("administer"))).subscribe is None
    assert verify(current(authorization_details=...)).subscribe is None


def test_the_first_detail_that_names_a_subscription_gives_its_payload() -> None:
    reads = verify(
        current(
            detail("publish", payload={"not": "for subscriptions"}),
            detail("subscribe", payload={"n": 1}),
            detail(
                "subscribe",
                topics=[{"match": "/b/:x", "match_type": "urlpattern"}],
                payload={"n": 2},
            ),
            detail("subscribe", topics=[{"match": "*"}], payload={}),
        )
    )
    assert payload_of(reads, exact("/a")) == {"n": 1}
    assert payload_of(reads, urlpattern("/b/:x")) == {"n": 2}
    assert payload_of(reads, exact("/c")) == {}
    assert payload_of(verify(legacy(mercure={"payload": 4})), exact("/c")) == 4
    assert payload_of(verify(current()), exact("/c")) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": ...},
        {"exp": None},
        {"exp": NOW},
        {"exp": NOW - 1},
        {"exp": "1900000000"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": 10**400},
        {"nbf": NOW + 6},
        {"nbf": "0"},
        {"iss": ...},
        {"iss": ""},
        {"iss": 1},
        {"aud": ...},
        {"aud": "https://other.example.com/.well-known/mercure"},
        {"aud": []},
        {"aud": {TRUST.resource: 1}},
        {"sub": 1},
        {"authorization_details": {}},
        {"authorization_details": "x"},
        {"authorization_details": [1]},
        {"authorization_details": [{}]},
    ],
)
def test_a_claim_that_is_wrong_or_missing_makes_the_token_bad(claims: dict[str, Any]) -> None:
    refused(current(detail("subscribe"), **claims))


@pytest.mark.parametrize(
    "bad",
    [
        detail(),
        detail("subscribe", topics=[]),
        detail("subscribe", topics=["/a"]),
        detail("subscribe", topics=[{"match": "/a"}, {}]),
        detail("subscribe", topics=[{"match": 1}]),
        detail("subscribe", topics=[{"match": ""}]),
        detail("subscribe", topics=[{"match": "/a", "match_type": "Exact"}]),
        detail("subscribe", topics=[{"match": "/a", "match_type": "regexp"}]),
        detail("subscribe", topics=[{"match": "/a", "match_type": None}]),
        detail("subscribe", topics=[{"match": "(", "match_type": "urlpattern"}]),
        detail("subscribe", topics=[{"match": f"/{n}"} for n in range(tokens.MATCHERS_MAX + 1)]),
        detail("administer", topics=[{"match": "("}, {}]),
        detail("subscribe", payload=None),
        detail("subscribe", payload=[{"x": 1}]),
        detail("publish", payload="x"),
        detail("administer", payload=1),
        {"type": tokens.DETAIL_TYPE, "actions": "subscribe", "topics": [{"match": "/a"}]},
        {"type": tokens.DETAIL_TYPE, "actions": ["subscribe", 1], "topics": [{"match": "/a"}]},
        {"type": tokens.DETAIL_TYPE, "topics": [{"match": "/a"}]},
        {"type": tokens.DETAIL_TYPE, "actions": ["subscribe"]},
    ],
)
def test_one_malformed_detail_makes_the_whole_token_bad(bad: dict[str, Any]) -> None:
    """Draft 08, Authorization Details: partial acceptance is forbidden."""
    refused(current(detail("subscribe"), bad))


def test_the_matchers_of_all_details_together_are_bounded() -> None:
    half = [{"match": f"/{n}"} for n in range(tokens.MATCHERS_MAX // 2 + 1)]
    refused(current(detail("subscribe", topics=half), detail("publish", topics=half)))


def test_an_issuer_must_be_trusted_where_some_are_named() -> None:
    trust = Trust(TRUST.resource, frozenset({"https://issuer.example.com"}))
    assert verify(current(), trust=trust).draft == 8
    refused(current(iss="https://issuer.example.com/"), trust=trust)


def test_nbf_has_a_little_leeway_and_exp_has_none() -> None:
    assert verify(current(nbf=NOW + 5)).draft == 8
    refused(current(exp=NOW))


def test_a_token_that_is_no_access_token_is_none_by_its_details() -> None:
    claims = {"iss": "i", "aud": TRUST.resource, "exp": NOW + 9, "authorization_details": []}
    refused(tokens.sign(KEY, claims, access_token=False))


def test_an_access_tokens_mercure_claim_grants_nothing() -> None:
    assert verify(current(mercure={"subscribe": ["*"]})).subscribe is None


# ---------------------------------------------------------------- signatures


GOOD = {"mercure": {"subscribe": ["*"]}}


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "nOnE", "typ": "JWT"},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"alg": ""},
        {"alg": None},
        {"alg": ["HS256"]},
        {},
        [],
        "HS256",
        None,
        {"alg": "HS256", "crit": ["x"], "x": 1},
        {"alg": "HS256", "crit": ["b64"], "b64": False},
        b"\xff",
        b"{",
        b"[" * 3000,
        b'{"alg":"HS256","x":' + b"[" * 3000,
    ],
)
def test_a_header_that_is_wrong_makes_the_token_bad(header: object) -> None:
    refused(raw(header, GOOD))
    refused(raw(header, GOOD, sign=False))


def test_the_tokens_of_these_tests_are_good_with_the_right_header() -> None:
    assert verify(raw({"alg": "HS256"}, GOOD)).subscribe.allow("/a")


@pytest.mark.parametrize("payload", [b"", b"x", [], 1, None, "x", b"\xff", b"[" * 3000])
def test_a_payload_that_is_no_object_makes_the_token_bad(payload: object) -> None:
    refused(raw({"alg": "HS256"}, payload))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "a", "é.é.é", "\ud800", "x" * 9000])
def test_garbage_is_a_bad_token(token: str) -> None:
    refused(token)


def test_a_huge_token_is_refused_before_it_is_read() -> None:
    assert "longer" in refused(legacy(mercure={"payload": "x" * tokens.TOKEN_BYTES_MAX}))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_token_that_was_changed_is_bad(at: int) -> None:
    parts = legacy(mercure={"subscribe": ["/a"]}).split(".")
    other = legacy(mercure={"subscribe": ["*"]}, x=1).split(".")
    parts[at] = other[at] if at else raw({"alg": "HS256", "typ": "at+jwt"}, {}).split(".")[0]
    refused(".".join(parts))


PAIRS: list[PrivateKey] = [
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate(),
]


def _key(pair: PrivateKey) -> Key:
    algorithm = {"RSA": "RS256", "Ell": "ES256", "EC": "ES256", "Ed2": "EdDSA"}
    name = type(pair).__name__
    found = next(value for start, value in algorithm.items() if name.startswith(start))
    return Key((found,), pair.public_key(), pair)


@pytest.mark.parametrize("pair", PAIRS)
def test_tokens_of_key_pairs_are_verified_by_the_public_key(pair: PrivateKey) -> None:
    key = _key(pair)
    token = legacy(key, mercure={"subscribe": ["/a"]})
    public_only = Key(key.algorithms, key.verifying, None)
    assert Verifier(public_only, "subscribe", TRUST).verify(token, NOW).subscribe is not None
    with pytest.raises(BadToken):
        Verifier(KEY, "subscribe", TRUST).verify(token, NOW)
    with pytest.raises(ValueError, match="private"):
        tokens.sign(public_only, {}, access_token=False)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_public_key_used_as_a_secret_signs_nothing(pair: PrivateKey) -> None:
    """Algorithm confusion (RFC 8725, 2.1): the public key is known to everybody."""
    public = pair.public_key()
    for encoding, form in (
        (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        secret = public.public_bytes(encoding, form)
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
            for part in ({"alg": "HS256"}, GOOD)
        ]
        text = b".".join(parts)
        signature = hmac.new(secret, text, hashlib.sha256).digest()
        token = (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
        with pytest.raises(BadToken):
            Verifier(_key(pair), "subscribe", TRUST).verify(token, NOW)


def test_key_material_in_the_token_is_not_used() -> None:
    pair = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(pair.public_key()))
    token = jwt.encode(GOOD, pair, "ES256", {"jwk": jwk, "jku": "https://evil.example.com"})
    with pytest.raises(BadToken):
        Verifier(_key(ec.generate_private_key(ec.SECP256R1())), "subscribe", TRUST).verify(
            token, NOW
        )


# ---------------------------------------------------------------- what is remembered


def test_a_remembered_token_still_expires() -> None:
    verifier = Verifier(KEY, "subscribe", TRUST)
    token = current(detail("subscribe"))
    assert verifier.verify(token, NOW) is verifier.verify(token, NOW + 59)
    with pytest.raises(BadToken):
        verifier.verify(token, NOW + 60)
    assert not verifier._verified


def test_remembered_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "VERIFIED_MAX", 3)
    verifier = Verifier(KEY, "subscribe", TRUST)
    for number in range(9):
        verifier.verify(legacy(mercure={}, jti=str(number)), NOW)
    assert len(verifier._verified) == 3


def test_bad_tokens_are_not_remembered() -> None:
    verifier = Verifier(KEY, "subscribe", TRUST)
    for number in range(9):
        with pytest.raises(BadToken):
            verifier.verify(f"a.b.{number}", NOW)
    assert not verifier._verified


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["mercure", "exp", "nbf", "iss", "aud", "sub", "authorization_details"]),
        JSON | st.just({"subscribe": ["*"]}) | st.just([detail("subscribe")]),
    ),
    st.sampled_from(["at+jwt", "JWT", 7, None]),
)
def test_no_claims_break_the_reader(claims: dict[str, Any], typ: object) -> None:
    try:
        rights = verify(raw({"alg": "HS256", "typ": typ}, claims))
    except BadToken:
        return
    assert rights.draft in (7, 8)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda some: some.decode("latin-1")))
def test_no_text_breaks_the_reader(token: str) -> None:
    refused(token)
