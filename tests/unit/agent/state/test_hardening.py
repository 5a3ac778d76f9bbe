"""Whatever a client sends is refused before the log or applied without an exception."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.harness.state import DrivenStore

from callboard.catalog import render
from callboard.catalog.decode import DecodeError, Kind, ListOf, MapOf, Scalar, Spec
from callboard.catalog.definitions import (
    DefinitionError,
    check_from_request,
    definitions_from_config,
    service_from_request,
)
from callboard.catalog.registration import (
    RegistrationError,
    deregister_from_request,
    register_from_request,
)
from callboard.catalog.specs import (
    CATALOG_DEREGISTER,
    CATALOG_REGISTER,
    CHECK_BODY,
    CHECK_FILE,
    SERVICE_BODY,
    SERVICE_FILE,
)

TEXTS = st.sampled_from(["", "a", "A", "passing", "10s", "10.0.0.1", "é/\u2028<", "x" * 600])


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """JSON values of a kind, now and then of another."""
    odd: st.SearchStrategy[Any] = st.sampled_from([None, 1, "x", [], {}])
    if isinstance(kind, Spec):
        return st.fixed_dictionaries(
            {}, optional={name: values(each) for name, each in kind.fields.items()}
        )
    if isinstance(kind, ListOf):
        return st.lists(values(kind.item), max_size=2)
    if isinstance(kind, MapOf):
        return st.dictionaries(TEXTS, values(kind.value), max_size=2)
    if not isinstance(kind, Scalar):
        return TEXTS
    if kind.kind == "string":
        return st.one_of(TEXTS, TEXTS, TEXTS, odd)
    if kind.kind == "boolean":
        return st.booleans()
    return st.integers(kind.minimum, max(kind.maximum, 10)) | st.sampled_from(["1s", "1h"])


WHOLE = {"Node": "a", "Address": "10.0.0.1", "ID": None, "Datacenter": None, "NodeMeta": None}


@given(values(CATALOG_REGISTER), st.sampled_from([{}, WHOLE]), values(CATALOG_DEREGISTER))
def test_any_catalog_body_is_refused_or_applied(
    register: dict[str, object], over: dict[str, object], deregister: object
) -> None:
    driven = DrivenStore()
    try:
        command = register_from_request(json.dumps({**register, **over}).encode(), "dc1")
    except (DecodeError, RegistrationError):
        return
    assert isinstance(driven.apply(command), bool | str)
    for name in driven.store.service_names():
        for entry in driven.store.health(name):
            json.loads(render.health_entry_json(entry))
    try:
        away = deregister_from_request(json.dumps(deregister).encode(), "dc1")
    except (DecodeError, RegistrationError):
        return
    assert driven.apply(away) is True
    driven.restored()


@given(values(SERVICE_BODY) | values(CHECK_BODY))
def test_any_agent_body_is_refused_or_defined(body: object) -> None:
    document = json.dumps(body).encode()
    for read in (service_from_request, check_from_request):
        try:
            read(document).unsupported()
        except (DecodeError, DefinitionError):
            pass


@given(values(SERVICE_FILE), values(CHECK_FILE))
def test_any_file_is_refused_or_defined(service: object, check: object) -> None:
    for document in ({"service": service}, {"services": [service]}, {"checks": check}):
        try:
            definitions_from_config(document)
        except (DecodeError, DefinitionError):
            pass


@given(st.text(), st.binary(), st.integers(0, 2**64 - 1))
def test_any_key_and_value_are_kept_and_shown(key: str, value: bytes, flags: int) -> None:
    driven = DrivenStore()
    assert driven.put(key, value, flags) is True
    entry = driven.store.key(key)
    assert entry is not None
    assert json.loads(render.key_value_json(entry))["Flags"] == flags
    assert driven.restored().store.key(key) == entry
