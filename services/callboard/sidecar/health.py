"""The health port: /livez, /readyz, /metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import cast

from callboard.sidecar.identity import FollowedIdentity
from callboard.sidecar.registration import Registration
from callboard.sidecar.serving import BoundedServer, Handler
from callboard.sidecar.supervisor import Supervisor

METRICS_KIND = "text/plain; version=0.0.4; charset=utf-8"
HELP = {
    "frames_total": "Frames that were encoded.",
    "octets_total": "Octets of these frames.",
    "keyframes_total": "Keyframes among them.",
    "keyframe_requests_total": "Keyframes that were asked for.",
    "failures_total": "Pipelines that ended by themselves.",
    "running": "Whether a pipeline is there.",
    "ready": "Whether a stream plays that should.",
    "leases": "Leases that are held.",
}
IDENTITY_HELP = {
    "certificate_days_left": "Until this program's certificate ends; negative afterwards.",
    "revocation_list_days_left": "Until its revocation list ends; then nobody new is let in.",
    "certificate_reloads_total": "How often certificate, CA or revocation list were taken anew.",
}


class HealthServer(BoundedServer):
    """The port, from `start` to `stop`."""

    def __init__(
        self,
        host: str,
        port: int,
        supervisor: Supervisor,
        registration: Registration | None,
        identity: FollowedIdentity | None = None,
    ) -> None:
        """Raises OSError."""
        self.supervisor = supervisor
        self.registration = registration
        self.identity = identity
        super().__init__(host, port, _Health)

    def problems(self) -> list[str]:
        """Why the program is not ready; empty when it is."""
        found = self.supervisor.problems()
        if self.registration is not None and self.registration.problem is not None:
            found.append(f"catalog: {self.registration.problem}")
        return found


class _Health(Handler):
    def route(self, method: str, path: str, body: bytes) -> None:
        """See the module."""
        server = cast(HealthServer, self.server)
        if method not in ("GET", "HEAD"):
            self.answer(HTTPStatus.METHOD_NOT_ALLOWED, "allowed: GET, HEAD", allow="GET, HEAD")
        elif path == "/livez":
            self.answer(HTTPStatus.OK, "ok")
        elif path == "/readyz":
            problems = server.problems()
            status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
            self.answer(status, "\n".join(problems) or "ok")
        elif path == "/metrics":
            lines = [*metrics(server.supervisor, time.monotonic())]
            if server.identity is not None:
                lines += identity_metrics(server.identity.figures())
            text = "".join(lines)
            self.answer(HTTPStatus.OK, text.encode(), kind=METRICS_KIND)
        else:
            self.answer(HTTPStatus.NOT_FOUND, "there are /livez, /readyz and /metrics")


def identity_metrics(figures: Mapping[str, float]) -> Iterator[str]:
    """Lines of what is left of the certificate."""
    for family, figure in figures.items():
        kind = "counter" if family.endswith("_total") else "gauge"
        yield f"# HELP callboard_{family} {IDENTITY_HELP[family]}\n"
        yield f"# TYPE callboard_{family} {kind}\n"
        yield f"callboard_{family} {figure}\n"


def metrics(supervisor: Supervisor, now: float) -> Iterator[str]:
    """Lines in Prometheus' text format. Counters of a shared stream begin anew with each
    pipeline."""
    by_track: dict[str, dict[str, float]] = {}
    by_stream: dict[str, dict[str, float]] = {}
    for stream, (passed, course, leases) in supervisor.figures().items():
        label = f'stream="{stream}"'
        for family, counts in (("frames_total", passed.frames), ("octets_total", passed.octets)):
            for track, count in dict(counts).items():
                by_track.setdefault(family, {})[f'{label},track="{track}"'] = count
        for family, figure in (
            ("keyframes_total", passed.keyframes),
            ("keyframe_requests_total", passed.keyframe_requests),
            ("failures_total", course.failures),
            ("running", course.runs),
            ("ready", course.problem(now) is None),
            ("leases", leases),
        ):
            by_stream.setdefault(family, {})[label] = figure
    for family, values in {**by_track, **by_stream}.items():
        kind = "counter" if family.endswith("_total") else "gauge"
        yield f"# HELP callboard_sidecar_{family} {HELP[family]}\n"
        yield f"# TYPE callboard_sidecar_{family} {kind}\n"
        for labels, value in values.items():
            yield f"callboard_sidecar_{family}{{{labels}}} {float(value):.15g}\n"
