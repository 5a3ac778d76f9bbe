"""The live page keeps the file server's Content-Security-Policy, and works below any prefix."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from callboard.fileserver.settings import PAGE

LIVE = PAGE / "live"
NAMES = {
    *("index.html", "live.css", "live.js", "watch.html", "watch.css", "watch.js"),
    *("player.js", "film.js", "words.js", "icon.svg"),
}
SCRIPTS = {"index.html": "live.js", "watch.html": "watch.js"}
LOADING = {"src", "href", "action"}


class Tags(HTMLParser):
    """All start tags of a document, and what scripts and styles stand in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)

    @property
    def loaded(self) -> list[str]:
        """Addresses that it names."""
        return [
            value or ""
            for _, attributes in self.tags
            for name, value in attributes.items()
            if name in LOADING
        ]


def code_of(name: str) -> str:
    """A script without its comments."""
    return re.sub(r"^ *//.*$", "", (LIVE / name).read_text("utf-8"), flags=re.M)


def test_the_page_is_these_files() -> None:
    assert {path.name for path in LIVE.iterdir()} == NAMES


def test_the_root_leads_to_the_live_page() -> None:
    tags = Tags(PAGE / "index.html")
    refresh = {"http-equiv": "refresh", "content": "0; url=live/"}
    assert ("meta", refresh) in tags.tags
    assert "live/" in tags.loaded


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_has_no_script_or_style_in_its_text(name: str) -> None:
    tags = Tags(LIVE / name)
    assert any(tag == "script" for tag, _ in tags.tags)
    assert tags.inline == []
    for tag, attributes in tags.tags:
        assert "style" not in attributes, tag
        assert not [each for each in attributes if each.startswith("on")], tag


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_loads_relative_addresses_that_are_there(name: str) -> None:
    for address in Tags(LIVE / name).loaded:
        assert re.fullmatch(r"(\.\./)?[a-z0-9][a-z0-9./]*", address), address
        if not address.startswith("../v1/"):
            assert (LIVE / address).is_file(), address


@pytest.mark.parametrize("page", SCRIPTS)
def test_a_script_names_elements_that_its_page_has(page: str) -> None:
    there = {attributes["id"] for _, attributes in Tags(LIVE / page).tags if "id" in attributes}
    script = code_of(SCRIPTS[page])
    used = {*re.findall(r'\bat\("([a-z-]+)"\)', script), *re.findall(r'Trouble\("(\w+)"', script)}
    labels = {"list-title"} if page == "index.html" else set()
    assert used | labels | ({"title"} & there) == there


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.endswith(".js")))
def test_scripts_import_what_lies_beside_them_and_write_text_alone(name: str) -> None:
    code = code_of(name)
    beside = {"./player.js", "./film.js", "./words.js"}
    assert set(re.findall(r'from "([^"]+)"', code)) <= beside
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", code)
    assert not re.search(r'"https?://', code)


@pytest.mark.parametrize("name", ["player.js", "film.js"])
def test_what_other_pages_may_take_imports_nothing(name: str) -> None:
    assert not re.search(r"\bimport\b", code_of(name))
