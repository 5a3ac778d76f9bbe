"""The protocol without media: a client's requests, and what the driver would tell."""

from __future__ import annotations

import random
from typing import Any

from callboard.gateway.janus.acts import Act, Call
from callboard.gateway.janus.messages import PLUGIN
from callboard.gateway.janus.mountpoints import Mountpoint
from callboard.gateway.janus.protocol import Authorise, Protocol
from callboard.gateway.janus.registry import RegistryLimits
from callboard.gateway.session.asker import Asker

ANSWER = {"type": "answer", "sdp": "v=0"}
MEDIA = ({"mid": "v", "type": "video", "label": "video", "rtpmap": "VP8/90000"},)


def mountpoint(number: int, name: str) -> Mountpoint:
    return Mountpoint(number, name, "live", name.title(), True, 0, MEDIA)


class Told:
    """One client; times are the test's."""

    def __init__(
        self, *, limits: RegistryLimits | None = None, authorise: Authorise | None = None
    ) -> None:
        self.mountpoints = [mountpoint(1, "first"), mountpoint(2, "second")]
        self.now = 100.0
        self.link = 0
        self.protocol = Protocol(
            lambda now: self.mountpoints, random.Random(1), limits=limits, authorise=authorise
        )

    def ask(self, verb: str, *of: int, **more: object) -> dict[str, Any]:
        """A request; `of`: session and handle, 0 for none."""
        named = {name: id for name, id in zip(("session_id", "handle_id"), of, strict=False) if id}
        return self.raw({"janus": verb, "transaction": "t", **named, **more})

    def raw(self, message: object) -> dict[str, Any]:
        return self.protocol.receive(message, Asker("a test"), self.link, self.now)

    def session(self) -> int:
        return int(self.ask("create")["data"]["id"])

    def attached(self) -> tuple[int, int]:
        session = self.session()
        return session, int(self.ask("attach", session, plugin=PLUGIN)["data"]["id"])

    def request(
        self, of: tuple[int, int], request: str, jsep: object = None, **body: object
    ) -> dict[str, Any]:
        more: dict[str, object] = {} if jsep is None else {"jsep": jsep}
        return self.ask("message", *of, body={"request": request, **body}, **more)

    def acts(self) -> list[Act]:
        taken, self.protocol.acts = self.protocol.acts, []
        return taken

    def events(self, session: int) -> list[dict[str, Any]]:
        woken = self.protocol.woken.pop(session, None)
        return woken.take(1000) if woken is not None else []

    def data(self, session: int) -> list[dict[str, Any]]:
        """What the plugin says in the events that wait."""
        return [each["plugindata"]["data"] for each in self.events(session)]

    def offered(self, of: tuple[int, int]) -> Call:
        """A call whose offer has come."""
        self.acts()
        assert self.request(of, "watch", id=1)["janus"] == "ack"
        (act,) = self.acts()
        assert self.protocol.offered(act.call, "v=0 offer")
        self.events(of[0])
        return act.call

    def up(self, of: tuple[int, int]) -> Call:
        """A call with media."""
        call = self.offered(of)
        self.request(of, "start", ANSWER)
        self.acts()
        self.protocol.up(call, ())
        self.events(of[0])
        return call


def error_of(answer: dict[str, Any]) -> int:
    """The code of the core's error."""
    assert answer["janus"] == "error", answer
    return int(answer["error"]["code"])
