"""What plays a film for one viewer, and can be told to pause, go on, or go elsewhere in it."""

from __future__ import annotations

from typing import Protocol

from callboard.media.leases import Progress


class NotSteered(Exception):
    """The film does not do that; the text says why."""


class Film(Protocol):
    """Of a personal stream. All answer where it is then, and raise NotSteered, and ConnectionError
    when what plays it does not answer."""

    async def progress(self) -> Progress:
        """Where it is."""

    async def start(self) -> Progress:
        """Go on; after the end, from the beginning."""

    async def pause(self) -> Progress:
        """Stand still: nothing is sent meanwhile."""

    async def seek(self, position_s: float) -> Progress:
        """Go on at the keyframe there, or the last one before."""
