"""The agent for users' tests: real HTTP and DNS, its own clock, nothing left behind."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request

import dns.message
import dns.query
import pytest

from callboard.agent.ports import LocalError
from callboard.testing import Catalog


def get(catalog: Catalog, path: str) -> object:
    """The JSON of a path."""
    with urllib.request.urlopen(catalog.url + path, timeout=5) as answer:
        return json.load(answer)


def health(catalog: Catalog, service: str) -> list[str]:
    """The statuses of a service's own checks."""
    entries = get(catalog, f"/v1/health/service/{service}")
    assert isinstance(entries, list)
    return [
        check["Status"]
        for entry in entries
        for check in entry["Checks"]
        if check["CheckID"] != "serfHealth"
    ]


def test_registered_service_is_found_by_http(catalog: Catalog) -> None:
    catalog.register("web", port=80, tags=["rails"])
    rows = get(catalog, "/v1/catalog/service/web")
    assert isinstance(rows, list)
    (row,) = rows
    assert (row["ServicePort"], row["ServiceTags"]) == (80, ["rails"])


def test_registered_service_is_found_by_dns(catalog: Catalog) -> None:
    catalog.register("web", port=80, tags=["rails"])
    question = dns.message.make_query("rails.web.service.consul", "SRV")
    host, port = catalog.dns
    answer = dns.query.udp(question, host, port=port, timeout=5)
    assert [record.port for record in answer.answer[0]] == [80]


def test_ttl_runs_out_when_the_clock_is_advanced(catalog: Catalog) -> None:
    catalog.register("web", port=80, ttl="10s")
    assert health(catalog, "web") == ["passing"]
    catalog.clock.advance(11)
    assert health(catalog, "web") == ["critical"]


def test_update_begins_the_ttl_anew(catalog: Catalog) -> None:
    catalog.register("web", port=80, ttl="10s")
    catalog.clock.advance(9)
    catalog.update("service:web")
    catalog.clock.advance(9)
    assert health(catalog, "web") == ["passing"]


def test_deregistered_service_is_gone(catalog: Catalog) -> None:
    catalog.deregister(catalog.register("web", port=80))
    assert get(catalog, "/v1/catalog/service/web") == []


def test_refusal_is_raised_in_the_test(catalog: Catalog) -> None:
    with pytest.raises(LocalError, match="Unknown service ID"):
        catalog.deregister("nope")


def test_two_catalogs_do_not_see_each_other() -> None:
    with Catalog() as one, Catalog() as other:
        one.register("web", port=80)
        assert get(other, "/v1/catalog/service/web") == []


def test_keys_are_kept(catalog: Catalog) -> None:
    request = urllib.request.Request(catalog.url + "/v1/kv/a/b", data=b"c", method="PUT")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.read() == b"true"
    with urllib.request.urlopen(catalog.url + "/v1/kv/a/b?raw", timeout=5) as answer:
        assert answer.read() == b"c"


def test_catalog_is_ready_quickly_once_imported(catalog: Catalog) -> None:
    began = time.monotonic()
    with Catalog():
        took_s = time.monotonic() - began
    assert took_s < 2.0  # 0.2 s on an idle machine; generous for a busy one


def test_stopped_catalog_leaves_no_thread_and_no_port() -> None:
    with Catalog() as stopped:
        address = ("127.0.0.1", int(stopped.url.rpartition(":")[2]))
    assert not any(thread.name == "callboard-catalog" for thread in threading.enumerate())
    with pytest.raises(OSError), socket.create_connection(address, timeout=1):
        pass


def test_catalog_that_is_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = Catalog().url
