"""The hub's page keeps its own Content-Security-Policy, and works below any prefix."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from callboard import hub
from callboard.events import course, errors

FOLDER = Path(hub.__file__).with_name("page")

NAMES = {"index.html", "page.css", "page.js", "eventstream.js"}
LOADING = {"src", "href", "action"}


class Tags(HTMLParser):
    """All start tags of a document, and what scripts and styles stand in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.fixture(scope="module")
def index() -> Tags:
    """The page."""
    return Tags((FOLDER / "index.html").read_text("utf-8"))


def test_the_page_is_these_files() -> None:
    assert {path.name for path in FOLDER.iterdir()} == NAMES


def test_the_page_has_no_script_or_style_in_its_text(index: Tags) -> None:
    assert any(tag == "script" for tag, _ in index.tags)
    assert index.inline == []
    for tag, attributes in index.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag


def test_the_page_loads_relative_addresses_only(index: Tags) -> None:
    loaded = [
        value for _, attributes in index.tags for name, value in attributes.items()
        if name in LOADING
    ]  # fmt: skip
    assert loaded
    for address in loaded:
        assert address is not None and re.fullmatch(r"[a-z][a-z.]*", address), address


@pytest.mark.parametrize("name", ["page.js", "eventstream.js"])
def test_the_scripts_import_what_lies_beside_them(name: str) -> None:
    text = (FOLDER / name).read_text("utf-8")
    code = re.sub(r"^//.*$", "", text, flags=re.M)
    assert set(re.findall(r'from "([^"]+)"', code)) <= {"./eventstream.js"}
    assert "innerHTML" not in code
    assert not re.search(r'"https?://', code)


def test_the_module_waits_as_the_other_clients_do() -> None:
    code = (FOLDER / "eventstream.js").read_text("utf-8")
    there = re.findall(r"^const ([A-Z_]+) = ([0-9._]+);", code, flags=re.M)
    assert {name: float(number.replace("_", "")) for name, number in there} == {
        "BEATS_MISSED": course.BEATS_MISSED,
        "HELLO_MS": 1000 * course.HELLO_S,
        "POLL_S": course.POLL_S,
        "POLL_EXTRA_S": course.POLL_EXTRA_S,
        "POLL_SHORT_MS": 1000 * course.POLL_SHORT_S,
        "RENEW_MS": 1000 * course.RENEW_S,
        "RETRY_MS": 1000 * course.RETRY_S,
        "RETRY_MAX_MS": 1000 * course.BACKOFF_MAX_S,
        "SINCE_EXTRA_MS": 1000 * course.SINCE_EXTRA_S,
        "STREAM_AGAIN_MS": 1000 * course.STREAM_AGAIN_S,
        "STREAM_AGAIN_MAX_MS": 1000 * course.STREAM_AGAIN_MAX_S,
        "WAIT_MAX_MS": 1000 * errors.WAIT_MAX_S,
    }


def test_the_module_for_users_imports_nothing() -> None:
    code = re.sub(r"^//.*$", "", (FOLDER / "eventstream.js").read_text("utf-8"), flags=re.M)
    assert not re.search(r"\bimport\b", code)


def test_the_script_names_elements_that_the_page_has(index: Tags) -> None:
    code = (FOLDER / "page.js").read_text("utf-8")
    used = set(re.findall(r'\bat\("([a-z]+)"\)', code))
    there = {attributes["id"] for _, attributes in index.tags if "id" in attributes}
    assert used == there
