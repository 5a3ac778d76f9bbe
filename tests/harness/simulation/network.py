"""A network that loses, doubles, delays and reorders, and whose links can be cut one way."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.harness.simulation.schedule import Schedule

Payload = TypeVar("Payload")


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is. Shares are of packets."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_s: tuple[float, float] = (0.0005, 0.002)
    """Drawn uniformly per packet: a wide range reorders."""
    stragglers: float = 0.0
    """Share of packets that take up to `straggler_s` instead: they cross terms."""
    straggler_s: float = 1.5
    ordered: bool = True
    """Packets of one link arrive in order, as on a TCP connection."""


FAIR = Weather()


def stormy(rng: random.Random) -> Weather:
    """Some bad weather."""
    return Weather(
        loss=rng.choice((0.0, 0.02, 0.1)),
        duplication=rng.choice((0.0, 0.05)),
        delay_s=(0.001, rng.choice((0.005, 0.02, 0.12))),
        stragglers=0.02,
        ordered=False,
    )


class Network(Generic[Payload]):
    """Carries payloads between named endpoints under one schedule."""

    def __init__(self, schedule: Schedule, rng: random.Random, weather: Weather = FAIR) -> None:
        self.weather = weather
        self.sent = 0
        self._schedule = schedule
        self._rng = rng
        self._receivers: dict[str, Callable[[Payload], None]] = {}
        self._cut: set[tuple[str, str]] = set()
        self._latest: dict[tuple[str, str], float] = {}

    def attach(self, name: str, receive: Callable[[Payload], None]) -> None:
        """Deliver what is sent to `name` by calling `receive`."""
        self._receivers[name] = receive

    def send(self, sender: str, receiver: str, payload: Payload) -> None:
        """Send, and know nothing of the outcome."""
        self.sent += 1
        weather = self.weather
        if (sender, receiver) in self._cut or self._rng.random() < weather.loss:
            return
        copies = 2 if self._rng.random() < weather.duplication else 1
        for _ in range(copies):
            if self._rng.random() < weather.stragglers:
                delay = self._rng.uniform(0.0, weather.straggler_s)
            else:
                delay = self._rng.uniform(*weather.delay_s)
            if weather.ordered:
                now = self._schedule.now
                at = max(now + delay, self._latest.get((sender, receiver), 0.0))
                self._latest[(sender, receiver)] = at
                delay = at - now
            self._schedule.after(delay, lambda: self._deliver(sender, receiver, payload))

    def _deliver(self, sender: str, receiver: str, payload: Payload) -> None:
        # A cut link also loses what was under way.
        if (sender, receiver) not in self._cut:
            self._receivers[receiver](payload)

    @property
    def names(self) -> tuple[str, ...]:
        """All endpoints."""
        return tuple(self._receivers)

    def cut(self, links: Iterable[tuple[str, str]]) -> None:
        """Cut exactly these links, each one way: (sender, receiver)."""
        self._cut = set(links)

    def isolate(self, *names: str) -> None:
        """Cut `names`, together, from all others, both ways."""
        inside = set(names)
        self.cut(
            (one, other)
            for one in self._receivers
            for other in self._receivers
            if (one in inside) != (other in inside)
        )

    def heal(self) -> None:
        """Restore all links."""
        self._cut = set()
