"""Has the kernel ask whether the other end of a silent connection is still there (tcp(7))."""

from __future__ import annotations

import socket


def keep_alive(
    sock: socket.socket, *, idle_s: int, between_s: int, probes: int, unacknowledged_s: int = 0
) -> None:
    """Probe after `idle_s` of silence, every `between_s`; after `probes` of them without an answer
    the connection is lost. So it is when sent bytes are not acknowledged for `unacknowledged_s`
    (0: the system's time). Of a listener, what it accepts has the same.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", idle_s),
        ("TCP_KEEPINTVL", between_s),
        ("TCP_KEEPCNT", probes),
        ("TCP_USER_TIMEOUT", unacknowledged_s * 1000),
    ):
        if value and hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
