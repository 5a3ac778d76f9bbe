"""Request heads: what is read, what is refused, and that nothing else happens."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.fileserver.head import (
    FIELDS_MAX,
    HEAD_BYTES_MAX,
    KEPT_BYTES_MAX,
    KEPT_MAX,
    TARGET_BYTES_MAX,
    BadHead,
    Head,
    Heads,
    end_of_head,
    parse,
)


def head(line: str = "GET / HTTP/1.1", *fields: str, host: str = "Host: a") -> Head:
    return parse("\r\n".join([line, *([host] if host else []), *fields, "", ""]).encode("latin-1"))


def status(line: str = "GET / HTTP/1.1", *fields: str, host: str = "Host: a") -> int:
    with pytest.raises(BadHead) as refused:
        head(line, *fields, host=host)
    return refused.value.status


def test_a_plain_request_is_read() -> None:
    got = head("GET /a%20b?c=d HTTP/1.1", "Accept:  text/html ", "X-Empty:")
    assert (got.method, got.target, got.path, got.query) == (
        b"GET", b"/a%20b?c=d", b"/a%20b", b"c=d",
    )  # fmt: skip
    assert got.decoded == b"/a b"
    assert got.headers == [(b"Host", b"a"), (b"Accept", b"text/html"), (b"X-Empty", b"")]
    assert got.keep_alive and not got.has_body and got.minor == 1


def test_a_repeated_field_is_joined_in_order() -> None:
    assert head("GET / HTTP/1.1", "Accept: a", "accept: b").fields[b"accept"] == b"a, b"


def test_the_absolute_form_becomes_the_origin_form() -> None:
    assert head("GET http://a/b?c HTTP/1.1").target == b"/b?c"
    assert head("GET https://A HTTP/1.1").target == b"/"
    assert head("GET http://a?b HTTP/1.1").target == b"/?b"


def test_an_absolute_form_of_another_host_is_refused() -> None:
    assert status("GET http://b/ HTTP/1.1") == 400
    assert status("GET ftp://a/ HTTP/1.1") == 400
    assert status("GET http://a@b/ HTTP/1.1", host="Host: b") == 400


@pytest.mark.parametrize("target", ["*", "a", "a:443", "\\", "/\\..", "/#x", "/<", '/"', "/\x80"])
def test_a_target_of_another_form_is_refused(target: str) -> None:
    assert status(f"GET {target} HTTP/1.1") == 400


def test_the_asterisk_is_for_options() -> None:
    assert head("OPTIONS * HTTP/1.1").target == b"*"


@pytest.mark.parametrize("path", ["/%", "/%4", "/%zz", "/%00", "/%0a", "/a%7f"])
def test_bad_escapes_and_control_characters_are_refused(path: str) -> None:
    assert status(f"GET {path} HTTP/1.1") == 400


def test_a_path_is_decoded_once_only() -> None:
    assert head("GET /%252e%252e/x HTTP/1.1").decoded == b"/%2e%2e/x"


@pytest.mark.parametrize(
    "line",
    [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "G(T / HTTP/1.1",
        "",
        "GET /\x00 HTTP/1.1",
    ],
)
def test_a_malformed_request_line_is_400(line: str) -> None:
    assert status(line) == 400


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3"])
def test_another_version_is_505(version: str) -> None:
    assert status(f"GET / {version}") == 505


def test_the_preface_of_http_2_is_505() -> None:
    assert status("PRI * HTTP/2.0", host="") == 505


@pytest.mark.parametrize(
    "field",
    ["X : a", "X a", ": a", "X\x00: a", "X: a\x00b", "X: a\rb", "X: a\x0bb", " X: a", "\tX: a"],
)
def test_a_malformed_field_is_400(field: str) -> None:
    assert status("GET / HTTP/1.1", field) == 400


def test_a_folded_line_is_400() -> None:
    assert status("GET / HTTP/1.1", "X: a", " b") == 400


@pytest.mark.parametrize("host", ["", "Host:", "Host: a b", "Host: a/b", "Host: a@b", "Host: a:x"])
def test_no_host_or_a_malformed_one_is_400(host: str) -> None:
    assert status(host=host) == 400


def test_two_hosts_are_400_even_if_they_are_the_same() -> None:
    assert status("GET / HTTP/1.1", "Host: a") == 400
    assert status("GET / HTTP/1.1", "host: b") == 400


@pytest.mark.parametrize("host", ["a", "a.b:1443", "127.0.0.1:1", "[::1]:1443", "[fe80::1]"])
def test_hosts_are_taken(host: str) -> None:
    assert head(host=f"Host: {host}").host == host.encode()


@pytest.mark.parametrize(
    "value", ["+5", "-1", "5 5", "5,5", "0x5", "5.0", "", "\xd9\xa5", "9" * 19]
)
def test_a_malformed_length_is_400(value: str) -> None:
    assert status("POST / HTTP/1.1", f"Content-Length: {value}") == 400


def test_two_lengths_are_400_even_if_they_are_the_same() -> None:
    assert status("POST / HTTP/1.1", "Content-Length: 5", "Content-Length: 5") == 400


def test_a_length_beside_a_coding_is_400() -> None:
    assert status("POST / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked") == 400
    assert status("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 5") == 400


@pytest.mark.parametrize(
    "coding",
    ["gzip, chunked", "identity", "xchunked", "chunked, chunked", "", '"chunked"', "chunked;x"],
)
def test_another_coding_than_chunked_is_501(coding: str) -> None:
    assert status("POST / HTTP/1.1", f"Transfer-Encoding: {coding}") == 501


def test_two_codings_are_400() -> None:
    fields = ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")
    assert status("POST / HTTP/1.1", *fields) == 400


def test_a_coding_in_http_1_0_is_400() -> None:
    assert status("POST / HTTP/1.0", "Transfer-Encoding: chunked") == 400


def test_bodies_are_told() -> None:
    assert head("POST / HTTP/1.1", "Content-Length: 5").content_length == 5
    assert head("POST / HTTP/1.1", "Transfer-Encoding: Chunked").chunked
    assert not head("POST / HTTP/1.1", "Content-Length: 0").has_body


def test_a_connection_goes_on_by_its_version_and_field() -> None:
    assert not head("GET / HTTP/1.1", "Connection: x, Close").keep_alive
    assert not head("GET / HTTP/1.0").keep_alive
    assert head("GET / HTTP/1.0", "Connection: keep-alive").keep_alive


def test_an_upgrade_is_told_only_when_the_connection_field_names_it() -> None:
    fields = ("Upgrade: WebSocket", "Connection: keep-alive, Upgrade")
    assert head("GET / HTTP/1.1", *fields).upgrade == b"websocket"
    assert head("GET / HTTP/1.1", "Upgrade: websocket").upgrade == b""


def test_limits_are_414_and_431() -> None:
    assert status(f"GET /{'a' * TARGET_BYTES_MAX} HTTP/1.1") == 414
    assert status("GET / HTTP/1.1", *(["X: a"] * FIELDS_MAX)) == 431
    assert head("GET / HTTP/1.1", *(["X: a"] * (FIELDS_MAX - 1)))
    assert status("GET / HTTP/1.1", f"X: {'a' * HEAD_BYTES_MAX}") == 431


def test_the_same_bytes_are_read_once() -> None:
    heads = Heads()
    data = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    assert heads.parse(data) == parse(data)
    assert heads.parse(bytes(bytearray(data))) is heads.parse(data)


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Consul-Token"])
def test_a_head_with_credentials_is_not_kept(name: str) -> None:
    heads = Heads()
    data = f"GET / HTTP/1.1\r\nHost: a\r\n{name}: secret\r\n\r\n".encode()
    assert heads.parse(data) is not heads.parse(data)


def test_a_head_with_a_query_is_not_kept_for_a_token_may_stand_in_it() -> None:
    heads = Heads()
    data = b"GET /hub?authorization=secret HTTP/1.1\r\nHost: a\r\n\r\n"
    assert heads.parse(data) is not heads.parse(data)


def test_heads_kept_are_few_and_short() -> None:
    heads = Heads()
    first = b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n"
    kept = heads.parse(first)
    for number in range(1, KEPT_MAX + 1):
        heads.parse(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    assert heads.parse(first) is not kept
    long = b"GET /" + b"a" * KEPT_BYTES_MAX + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    assert heads.parse(long) is not heads.parse(long)
    with pytest.raises(BadHead):
        heads.parse(b"junk\r\n\r\n")


def test_a_head_is_whole_at_its_empty_line() -> None:
    assert end_of_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r") == 0
    assert end_of_head(b"a\r\n\r\nmore") == 5


def test_a_lone_line_feed_is_refused_before_the_head_is_whole() -> None:
    with pytest.raises(BadHead):
        end_of_head(b"GET / HTTP/1.1\nHost: a\n\n")


@pytest.mark.parametrize(("start", "wanted"), [(b"GET /", 414), (b"GET / HTTP/1.1\r\nX: ", 431)])
def test_a_head_without_end_is_refused_at_the_limit(start: bytes, wanted: int) -> None:
    with pytest.raises(BadHead) as refused:
        end_of_head(start + b"a" * HEAD_BYTES_MAX)
    assert refused.value.status == wanted


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        end = end_of_head(data)
        got = parse(data[:end] if end else data)
    except BadHead as problem:
        assert 400 <= problem.status < 600
        assert problem.reason.isprintable()
    else:
        assert data.startswith(got.method)


TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=20)
VALUE = st.text(string.printable[:95] + "\xe9", max_size=40).map(str.strip)
SINGLE = {"host", "content-length", "transfer-encoding"}


@given(
    st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in SINGLE), VALUE), max_size=8),
    st.sampled_from(["GET", "HEAD", "POST", "QUERY"]),
)
def test_what_is_well_formed_comes_back_as_it_was(fields: list[tuple[str, str]], verb: str) -> None:
    lines = [f"{name}: {value}" for name, value in fields]
    try:
        got = head(f"{verb} /x HTTP/1.1", *lines)
    except BadHead as problem:
        assert "more than one" in problem.reason
        return
    wanted = [(name.encode(), value.encode("latin-1").strip(b" \t")) for name, value in fields]
    assert got.headers == [(b"Host", b"a"), *wanted]


@given(st.binary(max_size=60), st.integers(0, 60))
def test_a_head_with_any_bytes_put_in_never_gets_two_framings(junk: bytes, at: int) -> None:
    plain = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\n\r\n"
    try:
        got = parse(plain[:at] + junk + plain[at:])
    except BadHead:
        return
    assert not (got.chunked and b"content-length" in got.fields)
    assert sum(name.lower() == b"host" for name, _ in got.headers) == 1
