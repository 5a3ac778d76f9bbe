"""Certificates in flags, files and environment; Consul's keys mean what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from callboard.agent.configuration import Built, ConfigurationError, build
from callboard.agent.settings import OFF

FILES = {"cert_file": "/c.pem", "key_file": "/k.pem", "ca_file": "/ca.pem"}


def built(tmp_path: Path, document: dict[str, object], *words: str, **environ: str) -> Built:
    """Build from one file, flags and environment."""
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(document))
    argv = ["-data-dir=/data", f"-config-file={path}", *words]
    return build(argv, environ, resolve=lambda name: "127.0.0.1")


def refusal(tmp_path: Path, document: dict[str, object], *words: str, **environ: str) -> str:
    """Why it is not built."""
    with pytest.raises(ConfigurationError) as refused:
        built(tmp_path, document, *words, **environ)
    return str(refused.value)


def test_without_a_certificate_nothing_is_open(tmp_path: Path) -> None:
    found = built(tmp_path, {}).settings
    assert (found.identity.given, found.ports.https) == (False, OFF)


def test_consuls_keys_are_an_identity_and_open_https(tmp_path: Path) -> None:
    found = built(tmp_path, {**FILES, "crl_file": "/crl.pem"}).settings
    assert found.identity.given
    assert found.identity.certificate == Path("/c.pem")
    assert found.identity.key == Path("/k.pem")
    assert found.identity.authorities == Path("/ca.pem")
    assert found.identity.revoked == Path("/crl.pem")
    assert found.ports.https == 8501


@pytest.mark.parametrize(
    "words", [["-identity=/i"], ["-cert-file=/c", "-key-file=/k", "-ca-file=/a"]]
)
def test_flags_are_an_identity(tmp_path: Path, words: list[str]) -> None:
    assert built(tmp_path, {}, *words).settings.identity.given


def test_environment_is_an_identity(tmp_path: Path) -> None:
    found = built(tmp_path, {}, IDENTITY="/i", EXCHANGE="/e").settings
    assert (found.identity.directory, found.identity.exchange) == (Path("/i"), Path("/e"))
    assert not built(tmp_path, {}, IDENTITY="/i", MUTUAL_TLS="off").settings.identity.given


def test_newer_keys_mean_the_same(tmp_path: Path) -> None:
    newer: dict[str, object] = {
        "tls": {
            "defaults": {**FILES, "verify_incoming": True, "verify_outgoing": True},
            "internal_rpc": {"verify_server_hostname": True},
        }
    }
    older = {**FILES, "verify_incoming": True, "verify_outgoing": True}
    assert built(tmp_path, newer).settings.identity == built(tmp_path, older).settings.identity
    assert built(tmp_path, newer).notices == ()


def test_newer_and_older_keys_must_agree(tmp_path: Path) -> None:
    document: dict[str, object] = {**FILES, "tls": {"defaults": {"ca_file": "/other.pem"}}}
    assert refusal(tmp_path, document) == "tls.defaults.ca_file and ca_file say different things"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"verify_incoming": True}, "VerifyIncoming set, and no CA certificate provided!"),
        (
            {"verify_incoming": True, "ca_file": "/ca.pem"},
            "VerifyIncoming set, and no Cert/Key pair provided!",
        ),
        ({"verify_outgoing": True}, "VerifyOutgoing set, and no CA certificate provided!"),
        ({"verify_server_hostname": True}, "VerifyOutgoing set, and no CA certificate provided!"),
        (
            {**FILES, "verify_incoming": True, "mutual_tls": "off"},
            "verify_incoming is true and mutual_tls off: say one of the two",
        ),
        ({"ca_file": "/ca.pem"}, "ca_file needs cert_file and key_file"),
        ({"cert_file": "/c.pem"}, "-cert-file and -key-file go together"),
        ({"cert_file": "/c.pem", "key_file": "/k.pem"}, "-cert-file needs -ca-file"),
        ({"exchange": "/e"}, "-exchange needs -identity"),
        ({**FILES, "identity": "/i"}, "two ways to say one thing"),
        ({"mutual_tls": "maybe"}, "-mutual-tls is on or off, not 'maybe'"),
        ({"ports": {"https": 8501}}, "ports.https needs a certificate"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, document: dict[str, object], text: str
) -> None:
    assert text in refusal(tmp_path, document)


@pytest.mark.parametrize("key", ["verify_incoming", "verify_outgoing", "verify_server_hostname"])
def test_false_does_not_weaken_and_is_told(tmp_path: Path, key: str) -> None:
    found = built(tmp_path, {**FILES, key: False})
    assert found.settings.identity.given
    assert found.notices == (
        f"{key} is false, and both sides are verified all the same: "
        "mutual_tls off is what turns it off",
    )


def test_mutual_tls_off_closes_https_and_keeps_the_rest(tmp_path: Path) -> None:
    found = built(tmp_path, {**FILES, "ports": {"https": 8501}, "mutual_tls": "off"}).settings
    assert (found.identity.given, found.ports.https) == (False, OFF)


def test_https_is_off_where_told(tmp_path: Path) -> None:
    assert built(tmp_path, {**FILES, "ports": {"https": -1}}).settings.ports.https == OFF


@pytest.mark.parametrize("identity", [False, True])
def test_clear_rpc_outside_loopback_is_told(tmp_path: Path, identity: bool) -> None:
    document: dict[str, object] = {"bind_addr": "10.0.0.1", "encrypt": "A" * 43 + "="}
    if identity:
        document |= FILES
    told = [notice for notice in built(tmp_path, document).notices if "RPC" in notice]
    assert told == ([] if identity else ["RPC is in the clear on 10.0.0.1: see -identity"])


@pytest.mark.parametrize("kept", [False, True], ids=["no keyring", "a keyring of before"])
def test_clear_gossip_outside_loopback_is_told(tmp_path: Path, kept: bool) -> None:
    if kept:
        (tmp_path / "data" / "serf").mkdir(parents=True)
        (tmp_path / "data" / "serf" / "local.keyring").touch()
    notices = built(tmp_path, {"bind_addr": "10.0.0.1"}, f"-data-dir={tmp_path / 'data'}").notices
    told = [notice for notice in notices if "gossip" in notice]
    assert told == ([] if kept else ["gossip is in the clear on 10.0.0.1: see -encrypt"])
