"""A film that is played for one viewer: from its beginning, and as that viewer wants it.

Each stretch from a start or a seek to the next pause is a pipeline of its own. They send from the
same ports, and go on with SSRC, sequence numbers and timestamps, so that whoever receives sees one
source that was silent for a while (RFC 3550, 5.1): the timestamps go on with the time of day.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from callboard.media.leases import Progress, State
from callboard.media.streams import Track
from callboard.sidecar.pipeline.running import (
    BadPipeline,
    Destination,
    Figures,
    Numbers,
    Pipeline,
    open_socket,
)

log = logging.getLogger(__name__)

LOOK_S = 0.1


class Closed(Exception):
    """The film's lease has ended: nothing of it is played any more."""


class Film(threading.Thread):
    """One viewer's, from `start` to the end of its lease. Safe to be told from any thread."""

    def __init__(
        self,
        launch: str,
        tracks: tuple[Track, ...],
        bind: str,
        destinations: frozenset[Destination],
        held: Callable[[], bool],
        *,
        stream: str,
        duration_s: float,
    ) -> None:
        """`held` says whether the lease still is. `duration_s` 0: not known. Raises
        BadPipeline."""
        super().__init__(name=f"film {stream}", daemon=True)
        self.stream = stream
        self._launch = launch
        self._tracks = tracks
        self._bind = bind
        self._destinations = destinations
        self._held = held
        self._duration_s = duration_s
        self._lock = threading.Lock()
        self._state = State.PLAYING
        self._position_s = 0.0
        self._begun_at = time.monotonic()
        rng = random.SystemRandom()
        self._numbers = {
            track.id: Numbers(*(rng.getrandbits(bits) for bits in (32, 16, 32))) for track in tracks
        }
        """Of the first packet of all."""
        self._sequences = {id: each.sequence for id, each in self._numbers.items()}
        self._pipeline: Pipeline | None = None
        self.figures = Figures()
        """Of all its stretches."""
        self.stopping = threading.Event()
        self._closed = False
        self._sockets: dict[str, Any] = {}
        try:
            for track in tracks:
                self._sockets[track.id] = open_socket(bind)
        except BadPipeline:
            self._close()
            raise

    def run(self) -> None:
        """Play, until the lease has ended or `stopping`."""
        try:
            with self._lock:
                self._begin(0.0)
            while not self.stopping.wait(LOOK_S) and self._held():
                with self._lock:
                    self._look()
        except Exception:
            log.exception("a film failed")
        finally:
            with self._lock:
                self._closed = True
                self._end_stretch()
                self._close()

    @property
    def plays(self) -> bool:
        """Whether a pipeline is there: not while it is paused, nor after its end."""
        return self._pipeline is not None

    def progress(self) -> Progress:
        """Where it is."""
        with self._lock:
            return self._told()

    def go_on(self) -> Progress:
        """Play; after the end from the beginning. Raises Closed."""
        with self._lock:
            self._check_open()
            if self._state is not State.PLAYING:
                self._begin(0.0 if self._state is State.ENDED else self._position_s)
            return self._told()

    def pause(self) -> Progress:
        """Send nothing for now."""
        with self._lock:
            if self._state is State.PLAYING:
                self._end_stretch()
                self._state = State.PAUSED
            return self._told()

    def seek(self, position_s: float) -> Progress:
        """Go on there, or wait there if it is paused. Raises Closed."""
        with self._lock:
            self._check_open()
            if self._duration_s:
                position_s = min(position_s, self._duration_s)
            if self._state is State.PAUSED:
                self._position_s = position_s
            else:
                self._end_stretch()
                self._begin(position_s)
            return self._told()

    # ------------------------------------------------------------------ with the lock held

    def _check_open(self) -> None:
        # A stretch that begins after the thread has gone would send without end: nobody looks at
        # it, and nobody stops it.
        if self._closed:
            raise Closed

    def _told(self) -> Progress:
        if self._pipeline is not None:
            self._position_s = self._pipeline.position_s or self._position_s
        position_s = max(0.0, self._position_s)
        if self._duration_s:
            position_s = min(position_s, self._duration_s)
        return Progress(self._state, position_s, self._duration_s)

    def _begin(self, position_s: float) -> None:
        """A stretch. One that cannot be played is the end."""
        self._position_s = position_s
        later_s = time.monotonic() - self._begun_at
        numbers = {
            track.id: Numbers(
                self._numbers[track.id].ssrc,
                self._sequences[track.id],
                self._numbers[track.id].timestamp + round(later_s * track.clock_rate) & 0xFFFFFFFF,
            )
            for track in self._tracks
        }
        try:
            self._pipeline = Pipeline(
                self._launch,
                self._tracks,
                self._bind,
                paced=True,
                position_s=position_s,
                numbers=numbers,
                sockets=self._sockets,
                figures=self.figures,
            )
            self._pipeline.send_to(self._destinations)
            self._pipeline.play()
        except BadPipeline as problem:
            log.warning("a film cannot be played", extra={"reason": str(problem)})
            self._pipeline = None
            self._state = State.ENDED
        else:
            self._state = State.PLAYING

    def _look(self) -> None:
        ended = self._pipeline.poll(0.0) if self._pipeline is not None else None
        if ended is not None:
            self._end_stretch()
            self._position_s = self._duration_s or self._position_s
            self._state = State.ENDED
            log.info("a film has ended", extra={"reason": ended})

    def _end_stretch(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            self._position_s = pipeline.position_s or self._position_s
            self._sequences = {id: pipeline.next_sequence(id) for id in self._sequences}
            pipeline.stop()

    def _close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()
