"""What was accepted at its handshake is judged anew when files or dates change."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.harness.certified import CA, Leaf, material, today

from callboard.pki import certificates
from callboard.pki.live import Judge, LiveIdentity
from callboard.pki.roles import names_for
from callboard.pki.standing import Standing


@dataclass
class Holder:
    """Somebody with connections."""

    ders: list[bytes]
    said: list[str | None] = field(default_factory=list)

    def __call__(self, judge: Judge) -> None:
        self.said = [judge(der) for der in self.ders]


@dataclass
class Scene:
    """A program's files, a peer of it, and the judge between them."""

    directory: Path
    authority: CA
    peer: Leaf
    live: LiveIdentity
    holder: Holder
    standing: Standing
    now: datetime

    def replace(self, name: str, body: bytes) -> None:
        """Change a file, and have the identity see it."""
        path = self.directory / name
        path.unlink()
        path.write_bytes(body)
        assert self.live.look()
        self.standing.look()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A server whose peer agent-2 is accepted."""
    authority = CA()
    peer = authority.leaf(names_for("agent", "agent-2"))
    live = LiveIdentity(material(tmp_path, authority.leaf(), authority))
    live.for_clients()
    holder = Holder([peer.certificate.public_bytes(Encoding.DER)])
    made = Scene(tmp_path, authority, peer, live, holder, None, today())  # type: ignore[arg-type]
    made.standing = Standing(live, now=lambda: made.now)
    made.standing.watch(holder)
    made.standing.look()
    assert holder.said == [None]
    return made


def test_revoked_peer_is_not_accepted_any_more(scene: Scene) -> None:
    scene.replace("crl.pem", certificates.pem(scene.authority.list(scene.peer, number=2)))
    assert scene.holder.said[0] is not None
    assert "was revoked on" in scene.holder.said[0]


def test_peer_stays_when_another_is_revoked(scene: Scene) -> None:
    scene.replace(
        "crl.pem", certificates.pem(scene.authority.list(scene.authority.leaf(), number=2))
    )
    assert scene.holder.said == [None]


def test_peer_stays_while_its_ca_is_one_of_two_and_goes_with_it(scene: Scene) -> None:
    following = CA("the next CA")
    both = certificates.pem(scene.authority.certificate) + certificates.pem(following.certificate)
    scene.replace("ca.pem", both)
    assert scene.holder.said == [None]
    scene.replace("ca.pem", certificates.pem(following.certificate))
    assert scene.holder.said == [None], "who dialled may come anew by itself"
    scene.now += timedelta(seconds=61)
    scene.standing.look()
    assert "not among the CAs any more" in str(scene.holder.said[0])


def test_peer_of_a_ca_with_the_same_name_and_another_key_goes(scene: Scene) -> None:
    scene.replace("ca.pem", certificates.pem(CA().certificate))
    scene.now += timedelta(seconds=61)
    scene.standing.look()
    assert "not among the CAs any more" in str(scene.holder.said[0])


def test_peer_through_an_intermediate_stays_until_it_is_revoked(scene: Scene) -> None:
    """The handshake saw the intermediate; what is judged here is the leaf alone."""
    between = CA("an intermediate")
    peer = between.leaf(names_for("agent", "agent-3"))
    scene.holder.ders = [peer.certificate.public_bytes(Encoding.DER)]
    for _ in range(3):
        scene.standing.look()
        assert scene.holder.said == [None]
        scene.now += timedelta(seconds=61)
    lists = certificates.pem(scene.authority.list()) + certificates.pem(between.list(peer))
    scene.replace("crl.pem", lists)
    assert "was revoked on" in str(scene.holder.said[0])


def test_peer_of_a_ca_that_comes_back_is_accepted_again(scene: Scene) -> None:
    scene.replace("ca.pem", certificates.pem(CA().certificate))
    scene.replace("ca.pem", certificates.pem(scene.authority.certificate))
    scene.now += timedelta(seconds=61)
    scene.standing.look()
    assert scene.holder.said == [None]


def test_peer_goes_when_its_certificate_expires(scene: Scene) -> None:
    scene.now += certificates.LEAF_LIFE - timedelta(minutes=10)
    scene.standing.look()
    assert scene.holder.said == [None]
    scene.now += timedelta(minutes=20)
    scene.standing.look()
    scene.now += timedelta(seconds=61)
    scene.standing.look()
    assert "expired" in str(scene.holder.said[0])


def test_list_out_of_date_ends_no_connection(scene: Scene) -> None:
    scene.now += certificates.CRL_LIFE + timedelta(days=1)
    scene.standing.look()
    assert scene.holder.said == [None]


def test_unreadable_files_end_no_connection(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.live.generation += 1
    (scene.directory / "ca.pem").write_bytes(b"")
    scene.standing.look()
    assert scene.holder.said == [None]
    assert "not judged anew" in caplog.text


def test_bytes_that_are_no_certificate_are_not_accepted(scene: Scene) -> None:
    assert scene.standing.judge(b"\x30\x03abc") is None
    scene.now += timedelta(seconds=61)
    assert scene.standing.judge(b"\x30\x03abc") is not None
