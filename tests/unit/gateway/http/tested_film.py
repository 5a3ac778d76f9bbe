"""A film that needs no sidecar."""

from __future__ import annotations

from dataclasses import replace

from callboard.media.leases import Progress, State


class TestedFilm:
    """A `Film` that does at once what it is told."""

    __test__ = False

    def __init__(self) -> None:
        self.now = Progress(State.PLAYING, 0.0, 60.0)
        self.failing: Exception | None = None

    async def progress(self) -> Progress:
        return self._told()

    async def start(self) -> Progress:
        return self._told(state=State.PLAYING)

    async def pause(self) -> Progress:
        return self._told(state=State.PAUSED)

    async def seek(self, position_s: float) -> Progress:
        return self._told(position_s=position_s)

    def _told(self, **changed: object) -> Progress:
        if self.failing is not None:
            raise self.failing
        self.now = replace(self.now, **changed)  # type: ignore[arg-type]
        return self.now
