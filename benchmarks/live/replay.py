"""Sends a recording, again and again, until it is ended: FILE HOST VIDEO_PORT AUDIO_PORT."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

from benchmarks.live.recording import endless, read


def main(file: str, host: str, *ports: str) -> None:
    """Run until a signal ends it."""
    targets = [(host, int(port)) for port in ports]
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    begun = time.monotonic()
    for entry in endless(read(Path(file))):
        wait = begun + entry.at_s - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        sender.sendto(entry.data, targets[entry.track])


if __name__ == "__main__":
    main(*sys.argv[1:])
