"""The agents of -catalog."""

from __future__ import annotations

import pytest

from callboard.chassis.agents import agent_urls


def test_bare_names_fit_a_stack_with_and_without_mutual_tls() -> None:
    assert agent_urls("agent-1, 127.0.0.2", secure=True) == (
        "https://agent-1:8501",
        "https://127.0.0.2:8501",
    )
    assert agent_urls("agent-1,[::1]", secure=False) == ("http://agent-1:8500", "http://[::1]:8500")


def test_schemes_and_ports_stay_as_they_are_given() -> None:
    given = "http://10.0.0.1:80/,https://b,http://[::1]/"
    assert agent_urls(given, secure=True) == (
        "http://10.0.0.1:80",
        "https://b:8501",
        "http://[::1]:8500",
    )
    assert agent_urls("agent-1:9000", secure=True) == ("https://agent-1:9000",)


@pytest.mark.parametrize(
    "value",
    ["", " , ", "ftp://a", "http://", "http://a:99999", "[::1", "htp:/a", "a b", "http://a/b"],
)
def test_what_names_no_agent_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="-catalog"):
        agent_urls(value, secure=False)
