"""An event loop whose time is a number: it waits for nothing, and the same run is played twice.

Sleeping is jumping to the next timer. Everything that a process scheduled carries its mark (a
context variable), so one process can be stopped (its callbacks are held) or killed (they are
never run) while the others run on. There are no threads and no sockets: `wires` makes connections.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

RESOLUTION_S = 1e-9
TURNS_MAX = 200_000
"""Turns of the loop without time passing: more is an endless loop."""
TASKS_BEFORE_PRUNING = 256


class Process:
    """What runs together, stops together and dies together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.held: list[asyncio.Handle] | None = None
        """What waits for the end of a pause, or for the burial; None while it runs."""
        self.tasks: list[asyncio.Task[Any]] = []
        """Of a dead process too: none may be unwound by chance, by the garbage collector."""
        self.context: Context = copy_context()
        self.context.run(CURRENT.set, self)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """One more of its tasks."""
        self.tasks.append(task)
        if len(self.tasks) % TASKS_BEFORE_PRUNING == 0:
            self.tasks = [each for each in self.tasks if not each.done()]

    @property
    def running(self) -> bool:
        """Neither stopped nor killed."""
        return self.held is None

    @property
    def paused(self) -> bool:
        """Stopped, and may go on."""
        return self.held is not None and not self.dead


CURRENT: ContextVar[Process | None] = ContextVar("process", default=None)


class Wires(Protocol):
    """Makes the loop's connections."""

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str) -> Any: ...

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        """(transport, protocol), as `create_connection` answers."""


class _Handle(asyncio.Handle):
    """A callback that waits while its process is stopped."""

    def _run(self) -> None:
        if _may_run(self, self._context.get(CURRENT)):  # type: ignore[attr-defined]
            super()._run()


class _Timer(asyncio.TimerHandle):
    """The same, later."""

    def _run(self) -> None:
        if _may_run(self, self._context.get(CURRENT)):  # type: ignore[attr-defined]
            super()._run()


def _may_run(handle: asyncio.Handle, process: Process | None) -> bool:
    if process is None:
        return True
    if process.held is not None:
        process.held.append(handle)
    return process.running


class _Task(asyncio.Task[Any]):
    """A task whose place in a set is the same in each run."""

    def __init__(self, serial: int, *args: Any, **kwargs: Any) -> None:
        self._serial = serial
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._serial


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of a simulation."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        """What no callback should have raised."""
        self.turns = 0
        self.wires: Wires
        self._now = 0.0
        self._standing = 0
        self._serial = 0
        self._clock_resolution = RESOLUTION_S
        self._selector = self
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._take_problem)

    # time ---------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        """The selector's: nothing comes from outside, so the next timer's time is now."""
        self.turns += 1
        if timeout is None:
            raise RuntimeError("nothing will ever happen any more")
        if timeout > 0:
            # To the timer itself: a sum of differences would not be the same number.
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
            self._standing = 0
        else:
            self._standing += 1
            if self._standing > TURNS_MAX:
                raise RuntimeError(f"an endless loop at {self._now:.3f} s")
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""

    # processes ----------------------------------------------------------------------------

    def pause(self, process: Process) -> None:
        """SIGSTOP."""
        if process.running:
            process.held = []

    def go_on(self, process: Process) -> None:
        """SIGCONT: all that came due meanwhile runs at once."""
        assert process.paused
        self._release(process)

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.dead, process.held = True, process.held or []

    def begin(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as a part of the process."""
        return self.create_task(work, context=process.context)

    def bury(self, processes: list[Process]) -> None:
        """At the very end: unwind what the dead left behind, one last time."""
        for process in processes:
            for task in process.tasks:
                task.cancel()
            self._release(process)

    def _release(self, process: Process) -> None:
        held, process.held = process.held, None
        self._ready.extend(held or ())  # type: ignore[attr-defined]

    # asyncio's own ------------------------------------------------------------------------

    def _call_soon(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        self._serial += 1
        task = _Task(self._serial, coro, loop=loop, **kwargs)
        context = kwargs.get("context")
        process = context.get(CURRENT) if context is not None else CURRENT.get()
        if process is not None:
            process.keep(task)
        return task

    def _take_problem(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        self.problems.append(f"{context['message']}: {problem!r}")

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, *_: Any, **__: Any
    ) -> Any:
        return await self.wires.listen(protocol_factory, host)

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        **_: Any,
    ) -> Any:
        return await self.wires.connect(protocol_factory, host, port)
