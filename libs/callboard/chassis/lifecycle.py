"""The life of a program: signals first, start in order, serve, stop in the reverse order.

    async def start(life: Lifecycle) -> None:
        server = await open_server()
        life.on_stop("http", server.stop)

    sys.exit(run(start))

`run` gives every stop a deadline, cancels what is left and names it in the log, and answers the
exit code. A component that must not go on (a failed fsync, a broken invariant) calls `fatal`.
No program's order is here: a program's `service` module states it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from the event loop (Python's default is 5 ms: the
log's writer and disk threads would cost commits that long)."""

COLLECTOR_THRESHOLDS = (100_000, 50, 100)
"""Full garbage collections of a large catalog take longer than a heartbeat (123 ms at 100,000
services); state objects are not tracked, so little is lost by looking for cycles rarely."""

STOP_DEADLINE_S = 5.0
"""For one component's stop, unless it says otherwise."""

LEFTOVER_DEADLINE_S = 2.0
"""For tasks nobody stopped, once cancelled."""

THREADS_DEADLINE_S = 1.0
"""For threads that are still at work when all is stopped."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Stop = Callable[[], Awaitable[object]]
Reload = Callable[[], Awaitable[object] | None]


@dataclass(frozen=True, slots=True)
class _Stopper:
    name: str
    stop: Stop
    deadline_s: float


def calm_collector() -> None:
    """Tune the garbage collector for a server that has started: what is there now is never looked
    at again, and the rest rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


class Lifecycle:
    """What a program's start function is given: where to say how things stop."""

    def __init__(self) -> None:
        self._stoppers: list[_Stopper] = []
        self._reloads: list[Reload] = []
        self._ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self.exit_code = 0
        self.signal = ""
        """The signal that ends the program ("SIGTERM"), "" while none or for another reason: an
        agent leaves or stays by it (leave_on_terminate, skip_leave_on_interrupt)."""

    def on_stop(self, name: str, stop: Stop, *, deadline_s: float = STOP_DEADLINE_S) -> None:
        """Call `stop` at the end, before everything registered earlier; it gets `deadline_s`."""
        self._stoppers.append(_Stopper(name, stop, deadline_s))

    def on_reload(self, callback: Reload) -> None:
        """Call `callback` at SIGHUP (and `reload()`); its failures are logged."""
        self._reloads.append(callback)

    def own(self, coroutine: Coroutine[object, object, object], name: str) -> None:
        """Run a task for the program's whole life; it is cancelled at the end, and if it raises
        the program ends."""
        task = self._loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def stop(self, reason: str = "", exit_code: int = 0) -> None:
        """Begin the end (idempotent; the first exit code that is not 0 stays)."""
        if not self._ending.is_set():
            log.info("stopping", extra={"reason": reason} if reason else {})
        self.exit_code = self.exit_code or exit_code
        self._ending.set()

    def fatal(self, reason: str, exit_code: int = 1) -> None:
        """Leave with a code that is not 0; may be called from any thread."""
        log.error("cannot go on: %s", reason)
        self._loop.call_soon_threadsafe(self.stop, reason, exit_code)

    @property
    def ending(self) -> bool:
        """Whether the end has begun."""
        return self._ending.is_set()

    async def ended(self) -> None:
        """Wait until the end begins."""
        await self._ending.wait()

    async def reload(self) -> None:
        """What SIGHUP does: every callback in order. Raises the first failure, after all ran."""
        failures: list[Exception] = []
        for callback in self._reloads:
            try:
                outcome = callback()
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception as problem:
                log.exception("reload failed")
                failures.append(problem)
        if failures:
            raise failures[0]

    async def stop_all(self) -> None:
        """Stop components, last started first, each within its deadline; then owned tasks."""
        while self._stoppers:
            stopper = self._stoppers.pop()
            try:
                async with asyncio.timeout(stopper.deadline_s):
                    await stopper.stop()
            except TimeoutError:
                log.warning(
                    "cancelled a stop that took too long",
                    extra={"component": stopper.name, "deadline_s": stopper.deadline_s},
                )
            except Exception:
                log.exception("a stop failed", extra={"component": stopper.name})
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LEFTOVER_DEADLINE_S)

    def _task_done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (problem := task.exception()) is None:
            return
        log.error("task failed", exc_info=problem, extra={"task": task.get_name()})
        self.stop(f"task {task.get_name()} failed", 1)


def run(start: Callable[[Lifecycle], Awaitable[None]]) -> int:
    """Run a program: start it, wait for a stop signal, stop it. Answers the exit code.

    A second stop signal leaves at once. What `start` raises is logged; the exit code is then 1.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _raise_descriptor_limit()
    loop = _new_loop()
    try:
        asyncio.set_event_loop(loop)
        code = loop.run_until_complete(_live(start))
    finally:
        _close(loop)
    _leave_threads(code)
    return code


def _raise_descriptor_limit() -> None:
    """Take as many file descriptors as the system grants: its first offer (often 1,024) is meant
    for programs that use select()."""
    try:
        offered, granted = resource.getrlimit(resource.RLIMIT_NOFILE)
        if offered != granted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (granted, granted))
    except (OSError, ValueError) as problem:
        log.warning("descriptor limit stays", extra={"limit": offered, "reason": str(problem)})


async def _live(start: Callable[[Lifecycle], Awaitable[None]]) -> int:
    life = Lifecycle()
    _handle_signals(life)
    starting = asyncio.ensure_future(start(life))
    ended = asyncio.ensure_future(life.ended())
    try:
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=LEFTOVER_DEADLINE_S)
        if not starting.done():
            log.warning("the start does not end", extra={"deadline_s": LEFTOVER_DEADLINE_S})
        elif not starting.cancelled() and (problem := starting.exception()) is not None:
            log.error("start failed: %s", problem, exc_info=_story(problem))
            life.stop("start failed", 1)
        await ended
        await life.stop_all()
    finally:
        ended.cancel()
    await _cancel_leftovers()
    return life.exit_code


class StartRefused(Exception):
    """A program will not start, and the text says all there is to say (no traceback is logged)."""


def _story(problem: BaseException) -> BaseException | None:
    return None if isinstance(problem, StartRefused) else problem


def _handle_signals(life: Lifecycle) -> None:
    """Signals before anything else, so that none is lost while the program starts."""
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, _on_stop_signal, life, number)
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        log.info("reloading")
        with contextlib.suppress(Exception):
            await life.reload()

    def on_reload() -> None:
        task = loop.create_task(reload(), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, on_reload)


def _on_stop_signal(life: Lifecycle, number: signal.Signals) -> None:
    if life.ending:
        log.warning("left at once: a second signal came", extra={"signal": number.name})
        logging.shutdown()
        os._exit(128 + number)
    life.signal = number.name
    life.stop(f"signal {number.name}")


async def _cancel_leftovers() -> None:
    """Cancel tasks nobody stopped, and name them: each is a bug in a component's stop."""
    current = asyncio.current_task()
    leftovers = [task for task in asyncio.all_tasks() if task is not current and not task.done()]
    if not leftovers:
        return
    names = sorted(task.get_name() for task in leftovers)
    log.warning("cancelled tasks that were left over", extra={"tasks": names[:20]})
    for task in leftovers:
        task.cancel()
    await asyncio.wait(leftovers, timeout=LEFTOVER_DEADLINE_S)


def _leave_threads(code: int) -> None:
    """Leave at once when a thread does not end (a name being resolved, a disk that hangs): the
    interpreter would wait for it for as long as it takes."""
    deadline = time.monotonic() + THREADS_DEADLINE_S
    stuck = [thread for thread in threading.enumerate() if _keeps_alive(thread)]
    for thread in stuck:
        thread.join(max(0.0, deadline - time.monotonic()))
    names = [thread.name for thread in stuck if thread.is_alive()]
    if names:
        log.warning("left threads that did not end", extra={"threads": names})
        logging.shutdown()
        os._exit(code)


def _keeps_alive(thread: threading.Thread) -> bool:
    return thread is not threading.current_thread() and not thread.daemon


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed: half the cost of a small request."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
