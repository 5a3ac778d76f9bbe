"""The file that describes streams."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.sidecar.configured import (
    DEFAULT,
    FILE_BYTES_MAX,
    TEST_TITLE,
    BadStreams,
    load,
    parse,
)

EXAMPLE = Path(__file__).parents[3] / "examples/streams.toml"


def test_the_example_has_the_test_pattern_and_a_launch_on_demand() -> None:
    pattern, ball = load(EXAMPLE)
    assert (pattern.name, pattern.title) == ("test-pattern", TEST_TITLE)
    assert pattern == DEFAULT[0]
    assert ball.on_demand and "rtpvp8pay name=video" in ball.launch and not ball.paced


def test_an_empty_file_has_no_streams() -> None:
    assert parse(b"") == ()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    place = tmp_path / "streams.toml"
    place.write_bytes(_stream("source = 'file'\npath = 'film.webm'"))
    (source,) = load(place)
    assert source.path == tmp_path / "film.webm" and source.paced


def _stream(rest: str) -> bytes:
    return f'[[streams]]\nname = "a"\n{rest}\n'.encode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"streams = [", "Invalid"),
        (b"\xff", "decode"),
        (b"stream = []", "unknown key 'stream'"),
        (b"streams = 5", r"\[\[streams\]\] is wanted"),
        (b"[[streams]]\nsource = 'test'", "is no name of a stream"),
        (b"[[streams]]\nname = '../a'\nsource = 'test'", "is no name of a stream"),
        (_stream(""), "stream a: source is 'test', 'launch', 'file'"),
        (_stream("source = 'tape'"), "stream a: source is 'test', 'launch', 'file', 'rtsp'"),
        (_stream("source = 'launch'"), "stream a: launch is a pipeline"),
        (_stream("source = 'test'\nlaunch = 'x'"), "launch is not for source = 'test'"),
        (_stream("source = 'file'"), "stream a: path is that of a file"),
        (_stream("source = 'file'\npath = 'x'\npaced = true"), "paced is not for source = 'file'"),
        (_stream("source = 'test'\ntitle = ''"), "stream a: a title"),
        (_stream("source = 'test'\non_demand = 1"), "stream a: on_demand is not of type bool"),
        (_stream("source = 'test'\ncolour = 1"), "stream a: unknown key 'colour'"),
        (_stream("source = 'test'") * 2, "stream a is there twice"),
        (b"#" * (FILE_BYTES_MAX + 1), "octets"),
    ],
)
def test_what_describes_no_stream_is_refused_in_words(text: bytes, why: str) -> None:
    with pytest.raises(BadStreams, match=why):
        parse(text)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_describe_streams_or_are_refused(text: bytes) -> None:
    try:
        made = parse(text)
    except BadStreams:
        return
    assert all(source.name for source in made)
