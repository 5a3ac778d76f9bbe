"""The allow-list: what of a folder can be asked for."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.static_server import put

from callboard.fileserver import folder as folder_module
from callboard.fileserver.entries import IN_MEMORY_MAX, Changed, Entry, Redirect, Table
from callboard.fileserver.folder import Folder, FolderError
from callboard.fileserver.mime import content_type
from callboard.fileserver.secrets import OVERLAP, has_key, is_hidden_name
from callboard.pki import certificates

KEY = certificates.new_key()
KEY_PEM = certificates.key_pem(KEY)
OLD = 1_600_000_000


def old(path: Path) -> Path:
    """Let a file have been there for long: then its times tell whether it changed."""
    os.utime(path, (OLD, OLD))
    return path


def read(root: Path, *, spa: bool = False, listings: bool = False) -> Table:
    table = Folder(os.fsencode(root), spa=spa, listings=listings).read()
    assert table is not None
    return table


def paths(root: Path) -> set[str]:
    return {path.decode() for path in read(root).paths}


def entry(table: Table, path: str) -> Entry:
    found = table.paths[path.encode()]
    assert isinstance(found, Entry)
    return found


def body(found: Entry) -> bytes:
    assert found.plain.body is not None
    return bytes(found.plain.body)


def test_files_and_folders_with_an_index_are_there(tmp_path: Path) -> None:
    put(tmp_path / "index.html", b"root")
    put(tmp_path / "a/index.html", b"a")
    put(tmp_path / "b/x y.txt", b"b")
    table = read(tmp_path)
    assert set(table.paths) == {
        b"/", b"/index.html", b"/a", b"/a/", b"/a/index.html", b"/b/x y.txt",
    }  # fmt: skip
    assert table.paths[b"/a"] == Redirect(b"/a/")
    assert body(entry(table, "/")) == b"root"


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".env",
        "a/.htaccess",
        "x.pem",
        "X.PEM",
        "x.key",
        "x.p12",
        "x.pfx",
        "x.jks",
        "id_rsa",
        "id_ed25519.pub",
        "x.key.gz",
        "x.key.bak",
        "x.pem~",
        "x.key.1",
        "a.swp~",
    ],
)
def test_names_that_are_never_served(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, b"not a key at all")
    assert paths(tmp_path) == set()


@pytest.mark.parametrize("name", ["keyboard.js", "pem.html", "x.key.js", "a.b.c", "monkey", "v1.2"])
def test_names_that_only_look_like_keys_are_served(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, b"x")
    assert paths(tmp_path) == {f"/{name}"}


def key_in(kind: str) -> bytes:
    der = serialization.Encoding.DER
    plain = serialization.NoEncryption()
    if kind == "pkcs8":
        return KEY_PEM
    if kind == "sec1":
        return KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain
        )
    if kind == "der":
        return KEY.private_bytes(der, serialization.PrivateFormat.PKCS8, plain)
    if kind == "sec1 der":
        return KEY.private_bytes(der, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    if kind == "openssh":
        return KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, plain
        )
    if kind == "encrypted":
        return KEY.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    if kind == "pgp":
        return b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBGV"
    if kind == "json":
        return b'{"private_key": "' + KEY_PEM.replace(b"\n", b"\\n") + b'"}'
    assert kind == "behind much else"
    return b"<p>" + b"x" * (folder_module.PART_BYTES - 70) + KEY_PEM


KINDS = [
    "pgp",
    "pkcs8",
    "sec1",
    "der",
    "sec1 der",
    "openssh",
    "encrypted",
    "json",
    "behind much else",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_under_an_innocent_name_is_not_served(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "notes.txt", key_in(kind))
    assert paths(tmp_path) == set()


def test_a_program_that_speaks_of_keys_is_served(tmp_path: Path) -> None:
    put(tmp_path / "jose.js", b"const begin = '-----BEGIN PRIVATE KEY-----'; x('-----END')")
    put(tmp_path / "x.tar.gz.asc", b"-----BEGIN PGP SIGNATURE-----\n\niQEzBAAB")
    put(tmp_path / "cert.txt", b"-----BEGIN CERTIFICATE-----\nMIIB" + b"A" * 64)
    assert paths(tmp_path) == {"/jose.js", "/cert.txt", "/x.tar.gz.asc"}


@given(st.integers(0, 4096))
def test_a_key_on_the_edge_of_two_parts_is_found(at: int) -> None:
    content = b"x" * 2048 + KEY_PEM + b"y" * 2048
    at = min(at, len(content))
    first, second = content[:at], content[at:]
    assert has_key(first, first=True) or has_key(first[-OVERLAP:] + second, first=False)


@given(st.binary(max_size=30))
def test_any_name_is_judged(name: bytes) -> None:
    assert isinstance(is_hidden_name(name), bool)
    assert is_hidden_name(b"." + name) and is_hidden_name(name + b".key")


def test_the_servers_own_key_is_not_served_whatever_its_name(tmp_path: Path) -> None:
    path = put(tmp_path / "innocent.txt", b"anything")
    found = path.stat()
    folder = Folder(os.fsencode(tmp_path), hidden=frozenset({(found.st_dev, found.st_ino)}))
    table = folder.read()
    assert table is not None and not table.paths


def test_links_inside_are_followed_and_links_out_are_not(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside.txt", b"secret")
    root = tmp_path / "root"
    put(root / "a.txt", b"a")
    put(root / ".hidden/x", b"x")
    put(root / "dir/y", b"y")
    (root / "in.txt").symlink_to("a.txt")
    (root / "out.txt").symlink_to(outside)
    (root / "up.txt").symlink_to("../outside.txt")
    (root / "hidden.txt").symlink_to(".hidden/x")
    (root / "folder").symlink_to("dir")
    (root / "etc").symlink_to("/etc")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    assert paths(root) == {"/a.txt", "/in.txt", "/dir/y"}


def test_a_sibling_whose_name_begins_like_the_root_is_outside(tmp_path: Path) -> None:
    put(tmp_path / "root-secret/x.txt", b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "x.txt").symlink_to(tmp_path / "root-secret/x.txt")
    assert paths(root) == set()


def test_a_root_that_is_a_link_can_be_changed(tmp_path: Path) -> None:
    put(tmp_path / "one/a.txt", b"1")
    put(tmp_path / "two/a.txt", b"2")
    (tmp_path / "current").symlink_to("one")
    folder = Folder(os.fsencode(tmp_path / "current"))
    first = folder.read()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "current")
    second = folder.read()
    assert first is not None and second is not None
    assert (body(entry(first, "/a.txt")), body(entry(second, "/a.txt"))) == (b"1", b"2")


def test_what_is_no_regular_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    put(tmp_path / "a", b"a")
    assert paths(tmp_path) == {"/a"}


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="is no folder"):
        read(tmp_path / "nowhere")


def test_nothing_changed_is_none(tmp_path: Path) -> None:
    old(put(tmp_path / "a", b"a"))
    folder = Folder(os.fsencode(tmp_path))
    assert folder.read() is not None
    assert folder.read() is None


def test_changes_are_seen(tmp_path: Path) -> None:
    folder = Folder(os.fsencode(tmp_path))
    put(tmp_path / "a", b"1")
    first = folder.read()
    put(tmp_path / "a", b"2")
    second = folder.read()
    put(tmp_path / "b", b"3")
    third = folder.read()
    (tmp_path / "a").unlink()
    fourth = folder.read()
    assert first and second and third and fourth
    assert entry(first, "/a").plain.etag != entry(second, "/a").plain.etag
    assert set(third.paths) == {b"/a", b"/b"}
    assert set(fourth.paths) == {b"/b"}


def test_a_change_that_leaves_size_and_times_is_seen_while_the_file_is_young(
    tmp_path: Path,
) -> None:
    path = put(tmp_path / "a", b"1")
    folder = Folder(os.fsencode(tmp_path))
    first = folder.read()
    times = path.stat()
    path.write_bytes(b"2")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = folder.read()
    assert first and second and body(entry(second, "/a")) == b"2"


@pytest.mark.parametrize("time_s", [-5, 0, 300_000_000_000])
def test_a_file_of_another_age_is_served(tmp_path: Path, time_s: int) -> None:
    path = put(tmp_path / "a", b"x")
    os.utime(path, (time_s, time_s))
    found = entry(read(tmp_path), "/a")
    assert 0 <= found.modified_s <= time.time()


def test_equal_contents_have_equal_tags(tmp_path: Path) -> None:
    put(tmp_path / "a", b"x")
    put(tmp_path / "b", b"x")
    put(tmp_path / "c", b"y")
    table = read(tmp_path)
    a, b, c = (entry(table, path).plain.etag for path in ("/a", "/b", "/c"))
    assert a == b != c
    assert a.startswith(b'"') and a.endswith(b'"')


def test_twins_are_found_and_old_ones_are_not(tmp_path: Path) -> None:
    old(put(tmp_path / "a.js", b"x" * 100))
    old(put(tmp_path / "a.js.gz", gzip.compress(b"x" * 100)))
    stale = put(tmp_path / "a.js.br", b"stale")
    os.utime(stale, (OLD - 1, OLD - 1))
    found = entry(read(tmp_path), "/a.js")
    assert set(found.coded) == {b"gzip"}
    for one in (found.plain, found.coded[b"gzip"]):
        assert b"Vary: Accept-Encoding\r\n" in one.fields
        assert b"Content-Type: text/javascript; charset=utf-8\r\n" in one.fields
    assert b"Content-Encoding: gzip\r\n" in found.coded[b"gzip"].fields
    assert found.plain.etag != found.coded[b"gzip"].etag
    alone = entry(read(tmp_path), "/a.js.gz").plain
    assert b"Content-Type: application/gzip\r\n" in alone.fields
    assert b"Content-Encoding" not in alone.fields


def test_a_listing_shows_what_can_be_asked_for_and_no_more(tmp_path: Path) -> None:
    put(tmp_path / "a/<b> & c:d.txt", b"x")
    put(tmp_path / "a/x.key", b"x")
    put(tmp_path / "a/key.txt", KEY_PEM)
    put(tmp_path / "b/index.html", b"own")
    table = read(tmp_path, listings=True)
    page = body(entry(table, "/a/")).decode()
    assert '<a href="./%3Cb%3E%20%26%20c%3Ad.txt">&lt;b&gt; &amp; c:d.txt</a>' in page
    assert "key" not in page
    assert '<a href="./a/">a/</a>' in body(entry(table, "/")).decode()
    assert body(entry(table, "/b/")) == b"own"
    assert table.paths[b"/a"] == Redirect(b"/a/")


def test_big_files_are_not_kept_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(IN_MEMORY_MAX + 1)
    put(tmp_path / "small", b"x")
    table = read(tmp_path)
    assert entry(table, "/big").plain.body is None
    assert table.memory_bytes == 1


def test_a_big_file_that_changed_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(IN_MEMORY_MAX + 1)
    source = entry(read(tmp_path), "/big").plain.source
    assert source is not None
    os.close(source.open())
    path.write_bytes(b"other")
    with pytest.raises(Changed):
        source.open()
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        source.open()


def test_small_files_have_memory_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MEMORY_BYTES_MAX", 150)
    put(tmp_path / "a", b"x" * 120)
    put(tmp_path / "b", b"x" * 100)
    table = read(tmp_path)
    assert entry(table, "/a").plain.body is None
    assert entry(table, "/b").plain.body is not None


def test_too_many_files_are_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "FILES_MAX", 2)
    for name in "abc":
        put(tmp_path / name, b"")
    with pytest.raises(FolderError, match="more than 2 files"):
        read(tmp_path)


def test_the_fallback_is_the_root_index_if_it_is_wanted(tmp_path: Path) -> None:
    put(tmp_path / "index.html", b"app")
    assert read(tmp_path).fallback is None
    fallback = read(tmp_path, spa=True).fallback
    assert fallback is not None and body(fallback) == b"app"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.JS", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a", "application/octet-stream"),
        ("a.exe", "application/octet-stream"),
        ("html", "application/octet-stream"),
    ],
)
def test_content_types(name: str, wanted: str) -> None:
    assert content_type(name) == wanted
