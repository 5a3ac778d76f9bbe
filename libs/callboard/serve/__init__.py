"""HTTP/1.1 serving: uvicorn with a fast lane, parked requests, streams and limits.

Every program of the project that speaks HTTP serves through this package. `adapter` (Starlette)
is not re-exported: it is slow to import.
"""

from callboard.serve.exchange import (
    Answer,
    Detach,
    Detached,
    Dispatcher,
    Handler,
    Outcome,
    Parked,
    Request,
    Route,
    Settled,
    Sink,
    Stream,
    StreamConnection,
    Streamed,
)
from callboard.serve.fanout import FanOut
from callboard.serve.lazy import LazyApp
from callboard.serve.limits import Limits
from callboard.serve.routes import RouteTable
from callboard.serve.server import Server
from callboard.serve.timerwheel import Timer, TimerWheel

__all__ = [
    "Answer",
    "Detach",
    "Detached",
    "Dispatcher",
    "FanOut",
    "Handler",
    "LazyApp",
    "Limits",
    "Outcome",
    "Parked",
    "Request",
    "Route",
    "RouteTable",
    "Server",
    "Settled",
    "Sink",
    "Stream",
    "StreamConnection",
    "Streamed",
    "Timer",
    "TimerWheel",
]
