"""Keeps the pipelines of all streams running that should: a thread for each, and for each film that
somebody watches."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from callboard.chassis.logs import RateLimited
from callboard.media.leases import Renewed
from callboard.media.streams import Stream, Track
from callboard.sidecar.configured import Source
from callboard.sidecar.course import STALLED_S, Action, Course
from callboard.sidecar.leases import Leases, TooMany
from callboard.sidecar.pipeline.descriptions import NetworkCamera
from callboard.sidecar.pipeline.files import describe_file
from callboard.sidecar.pipeline.films import Film
from callboard.sidecar.pipeline.running import BadPipeline, Figures, Pipeline, tracks_of

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""Between two looks at a pipeline."""
STOP_S = 5.0
LOG_INTERVAL_S = 30.0
FILMS_MAX = 16
"""Played at the same time."""


class NoSuchStream(KeyError):
    """There is no stream of that name."""


class NotPlayable(ValueError):
    """A stream, or tracks of it, that are not to be had; the text says why."""


class NoFilm(ValueError):
    """It is a live stream: there is nothing to pause, and nowhere else to go."""


@dataclass(frozen=True, slots=True)
class Described:
    """A source as it is listed, and what plays it."""

    stream: Stream
    launch: str
    duration_s: float = 0.0
    """Of a file; 0: not known."""


class Supervisor:
    """All streams, from `start` to `stop`. Safe to be called from any thread."""

    def __init__(self, sources: Iterable[Source], bind: str) -> None:
        """`bind` is the local IP address that RTP is sent from."""
        self._lock = threading.Lock()
        self._leases = Leases(lambda: secrets.token_urlsafe(18))
        self._bind = bind
        self._running: dict[str, _Stream] = {}
        self._films: dict[str, Described] = {}
        self._listed: list[Stream] = []
        self._playing: dict[str, Film] = {}
        """By lease."""
        self._played: dict[str, Figures] = {}
        """By stream: what passed films that have ended."""
        for each in sources:
            described = describe(each)
            self._listed.append(described.stream)
            if each.per_viewer:
                self._films[each.name] = described
                self._played[each.name] = Figures()
            else:
                self._running[each.name] = _Stream(each, described, bind, self)

    def start(self) -> None:
        """Begin."""
        for each in self._running.values():
            each.start()

    def stop(self) -> None:
        """End all pipelines, at the same time."""
        for each in self._running.values():
            each.stopping.set()
            each.woken.set()
        films = tuple(self._playing.values())
        for film in films:
            film.stopping.set()
        deadline = time.monotonic() + STOP_S
        for thread in (*self._running.values(), *films):
            thread.join(max(0.0, deadline - time.monotonic()))

    def streams(self) -> tuple[Stream, ...]:
        """What there is to be had."""
        running = self._running
        return tuple(
            running[each.name].described if each.name in running else each for each in self._listed
        )

    def take(self, stream: str, host: str, ports: Mapping[str, int]) -> tuple[str, float]:
        """A new lease: its ID and how long it lasts. Raises NoSuchStream, NotPlayable, TooMany."""
        described = next((each for each in self.streams() if each.name == stream), None)
        if described is None:
            raise NoSuchStream(stream)
        if described.problem:
            raise NotPlayable(described.problem)
        unknown = sorted(set(ports) - {track.id for track in described.tracks})
        if unknown:
            raise NotPlayable(f"it has no track {unknown[0]!r}")
        film = self._films.get(stream)
        with self._lock:
            self._forget_films()
            if film is not None and len(self._playing) >= FILMS_MAX:
                raise TooMany(f"{FILMS_MAX} films are played")
            id = self._leases.take(stream, host, ports, time.monotonic())
            if film is not None:
                self._play(id, film, host, ports)
        if film is None:
            self._running[stream].woken.set()
        log.info("a lease is taken", extra={"stream": stream, "host": host})
        return id, self._leases.lasts_s

    def _play(self, lease: str, film: Described, host: str, ports: Mapping[str, int]) -> None:
        """With the lock held: begin a film for who has the lease. Raises NotPlayable."""
        tracks = tuple(track for track in film.stream.tracks if track.id in ports)
        where = frozenset((track, host, port) for track, port in ports.items())
        try:
            made = Film(
                film.launch,
                tracks,
                self._bind,
                where,
                lambda: self._holds(lease),
                stream=film.stream.name,
                duration_s=film.duration_s,
            )
        except BadPipeline as problem:
            self._leases.release(lease, time.monotonic())
            raise NotPlayable(str(problem)) from problem
        self._playing[lease] = made
        made.start()

    def _holds(self, lease: str) -> bool:
        with self._lock:
            return self._leases.holds(lease, time.monotonic())

    def _forget_films(self) -> None:
        """With the lock held: one that has ended by a mistake takes its lease with it."""
        for id in [id for id, film in self._playing.items() if not film.is_alive()]:
            ended = self._playing.pop(id)
            self._played[ended.stream].add(ended.figures)
            self._leases.release(id, time.monotonic())

    def film(self, lease: str) -> Film | None:
        """What is played for a lease; None if there is no such lease. Raises NoFilm."""
        with self._lock:
            self._forget_films()
            if not self._leases.holds(lease, time.monotonic()):
                return None
            found = self._playing.get(lease)
        if found is None:
            raise NoFilm("it is live: there is nothing to pause, and nowhere else to go")
        return found

    def ask_keyframe(self, stream: str) -> bool:
        """Have the next picture of a stream be a keyframe; False if there is no such stream."""
        running = self._running.get(stream)
        if running is not None:
            running.ask_keyframe()
        return running is not None or stream in self._films

    def renew(self, lease: str) -> Renewed | None:
        """How long it lasts from now on, and where its film is; None if there is none."""
        with self._lock:
            self._forget_films()
            known = self._leases.renew(lease, time.monotonic())
            film = self._playing.get(lease)
        if not known:
            return None
        return Renewed(self._leases.lasts_s, film.progress() if film is not None else None)

    def release(self, lease: str) -> bool:
        """End a lease; False if there is none. Of a film, nothing is sent any more afterwards, and
        its place is free."""
        with self._lock:
            known = self._leases.release(lease, time.monotonic())
            film = self._playing.get(lease)
        if film is not None:
            film.stopping.set()
            film.join(STOP_S)
        for each in self._running.values():
            each.woken.set()
        return known

    def end_leases(self, stream: str) -> None:
        """What was leased is not what there is now: whoever held it looks again."""
        with self._lock:
            self._leases.end(stream)

    def demand(self, stream: str) -> tuple[int, frozenset[tuple[str, str, int]]]:
        """How many leases a stream has, and where it is to go."""
        with self._lock:
            now = time.monotonic()
            return self._leases.of(stream, now), self._leases.destinations(stream, now)

    def problems(self) -> list[str]:
        """Why streams that should play do not."""
        now = time.monotonic()
        found = ((name, each.course.problem(now)) for name, each in self._running.items())
        return [f"{name}: {problem}" for name, problem in found if problem is not None]

    def figures(self) -> dict[str, tuple[Figures, Course, int]]:
        """By stream: what passed since its pipeline began, its course, and its leases. Of films
        what passed all of them: those that have ended count on, as counters must not go back."""
        shared = {
            name: (each.figures, each.course, self.demand(name)[0])
            for name, each in self._running.items()
        }
        return shared | {name: (*self._shown(name), self.demand(name)[0]) for name in self._films}

    def _shown(self, stream: str) -> tuple[Figures, Course]:
        """What passed the films of a stream; it runs while one of them is played, and misses
        nothing: who watches each sees by its progress where it is."""
        passed, course = Figures(), Course(on_demand=True)
        with self._lock:
            self._forget_films()
            passed.add(self._played[stream])
            films = [film for film in self._playing.values() if film.stream == stream]
        for film in films:
            passed.add(film.figures)
        if any(film.plays for film in films):
            course.started(time.monotonic())
        return passed, course


class _Stream(threading.Thread):
    """One stream."""

    def __init__(
        self, source: Source, described: Described, bind: str, supervisor: Supervisor
    ) -> None:
        super().__init__(name=f"stream {source.name}", daemon=True)
        self._source = source
        self._bind = bind
        self._supervisor = supervisor
        self._pipeline: Pipeline | None = None
        self._limited = RateLimited(log, LOG_INTERVAL_S)
        self.stopping = threading.Event()
        self.woken = threading.Event()
        self._missed: set[str] = set()
        """Tracks of the pipeline that were told to be missed."""
        self._untaken: set[str] = set()
        """Kinds that a camera sends and nobody takes."""
        self._reordered = False
        self.course = Course(on_demand=source.on_demand)
        self.figures = Figures()
        self.described, self._launch = described.stream, described.launch

    def ask_keyframe(self) -> None:
        """If it runs."""
        pipeline = self._pipeline
        if pipeline is not None:
            for track in self.described.tracks:
                pipeline.ask_keyframe(track.id)

    def run(self) -> None:
        """Until `stopping`, or until it turns out not to be playable."""
        while not (self.stopping.is_set() or self.described.problem):
            self.woken.clear()
            try:
                self._turn()
            except Exception:  # a mistake of ours: this stream begins anew, the others go on
                log.exception("a stream failed", extra={"stream": self._source.name})
                self._fail("an error of the sidecar: see its log")
            self.woken.wait(LOOK_S)
        self._end()
        if self.described.problem:
            log.error(
                "a stream is not playable",
                extra={
                    "stream": self._source.name,
                    "reason": self.described.problem,
                    "path": str(self._source.path or ""),
                },
            )

    def _turn(self) -> None:
        leases, destinations = self._supervisor.demand(self._source.name)
        if self._pipeline is not None:
            self.course.frame(self._pipeline.frame_at, self._pipeline.brought_at)
            self._tell_missing()
            self._look(self._pipeline)
            ended = self._pipeline.poll(0.0) if self._pipeline is not None else None
            if ended is not None:
                self._fail(ended)
        action = self.course.action(leases, time.monotonic())
        if action is Action.START:
            self._begin(self.described.tracks)
        elif action is Action.STOP:
            log.info("a stream rests", extra={"stream": self._source.name})
            self._end()
            self.course.stopped()
        elif action is Action.RESTART:
            self._fail("no frame came any more")
        if self._pipeline is not None:
            self._pipeline.send_to(destinations)

    def _begin(self, tracks: tuple[Track, ...]) -> None:
        try:
            self._pipeline = Pipeline(
                self._launch,
                tracks,
                self._bind,
                paced=self._source.paced,
                looped=self._source.path is not None,
            )
            self.figures = self._pipeline.figures
            self._pipeline.play()
        except BadPipeline as problem:
            self._fail(str(problem))
            return
        self._missed.clear()
        self.course.started(time.monotonic())
        log.info("a stream begins", extra={"stream": self._source.name})

    def _look(self, pipeline: Pipeline) -> None:
        """At what comes of it, which only a camera itself can say."""
        name, camera = self._source.name, self._source.camera
        for kind, codec in tuple(pipeline.announced):
            if camera is not None and not camera.takes(kind, codec) and kind not in self._untaken:
                self._untaken.add(kind)
                extra = {"stream": name, "track": kind, "codec": codec}
                log.warning("what a camera sends is not taken: it is not configured", extra=extra)
        if pipeline.reordered and not self._reordered:
            self._reordered = True
            extra = {"stream": name}
            if camera is None:
                log.warning("pictures are reordered: browsers show them in disorder", extra=extra)
            else:
                log.info("pictures are reordered: they are encoded anew", extra=extra)
                self._encode_anew(camera)

    def _encode_anew(self, camera: NetworkCamera) -> None:
        """Begin anew with another codec, and listed with it. Once is for good: a camera does not
        change its ways often, and what is encoded anew is right in any case."""
        self._end()
        self.course.stopped()
        launch = camera.launch(anew=True)
        try:
            tracks, problem = tracks_of(launch), ""
        except BadPipeline as failure:
            tracks, problem = (), f"its pictures are reordered (B-frames): {failure}"
        self._launch = launch
        self.described = replace(self.described, tracks=tracks, problem=problem)
        self._supervisor.end_leases(self._source.name)

    def _tell_missing(self) -> None:
        """Of each pipeline once."""
        for track in self.course.missing(time.monotonic(), STALLED_S):
            if track not in self._missed:
                self._missed.add(track)
                extra = {"stream": self._source.name, "track": track}
                log.warning("a track is missed, the stream goes on without", extra=extra)

    def _fail(self, reason: str) -> None:
        self._end()
        self.course.failed(reason, time.monotonic())
        extra = {"stream": self._source.name, "reason": reason}
        self._limited.warning("failed", "a stream has ended by itself", extra)

    def _end(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.stop()


def describe(source: Source) -> Described:
    """A stream as it is listed, and its pipeline: one that cannot be made is listed, too, and says
    why."""
    launch, duration_s = source.launch, 0.0
    tracks: tuple[Track, ...] = ()
    problem = ""
    try:
        if source.path is not None:
            file = describe_file(source.path)
            launch, duration_s = file.launch, file.duration_s
        tracks = tracks_of(launch)
    except BadPipeline as failure:
        problem = str(failure)
    stream = Stream(source.name, source.title, tracks, source.on_demand, source.per_viewer, problem)
    return Described(stream, launch, duration_s)
