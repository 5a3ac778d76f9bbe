"""Pages of other sites: who may read (CORS), and who may write."""

from __future__ import annotations

from callboard.hub.auth.origins import Origins


def test_every_page_may_read_if_that_is_wanted_but_none_with_cookies() -> None:
    origins = Origins(["*", "https://app.example/"])
    stranger = dict(origins.headers({"origin": "https://evil.example"}))
    assert stranger["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in stranger
    friend = dict(origins.headers({"origin": "https://App.example"}))
    assert friend["Access-Control-Allow-Origin"] == "https://App.example"
    assert friend["Access-Control-Allow-Credentials"] == "true"
    assert origins.preflight({"origin": "https://evil.example"})
    assert not Origins().preflight({"origin": "https://evil.example"})
    assert not origins.may_write({"origin": "https://evil.example"}, "http://localhost:8800")
