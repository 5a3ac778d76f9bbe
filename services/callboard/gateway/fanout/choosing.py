"""Which fan-out a gateway gets: the C helper where it was built, else Python. The log says it."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Literal

from callboard.gateway.fanout.native import LayoutError, NativeFanout
from callboard.gateway.fanout.plain import PlainFanout
from callboard.gateway.ports import Fanout

LIBRARY = Path(__file__).with_name("_fanout.so")
"""Where `build` puts it."""

log = logging.getLogger(__name__)


def open_fanout(
    sock: socket.socket, prefer: Literal["native", "plain"] = "native", library: Path = LIBRARY
) -> Fanout:
    """A fan-out that sends by the media port's UDP socket. Nothing is compiled here."""
    if prefer == "plain":
        log.info("fan-out in Python, as asked for", extra={"fanout": "plain"})
        return PlainFanout(sock)
    try:
        fanout = NativeFanout(sock, library)
    except (OSError, AttributeError, LayoutError) as why:
        log.warning(
            "fan-out in Python, at about twice the cost: no C helper "
            "(python -m callboard.gateway.fanout.build makes it)",
            extra={"fanout": "plain", "why": str(why)},
        )
        return PlainFanout(sock)
    log.info("fan-out by the C helper", extra={"fanout": "native", "library": str(library)})
    return fanout
