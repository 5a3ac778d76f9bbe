"""Debian's serf agents, as processes: memberlist's and serf's own code."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.sockets import free_port

_numbers = itertools.count(os.getpid() % 100 * 2 + 1)


@dataclass
class SerfAgent:
    """A running serf agent."""

    name: str
    address: str
    rpc: str
    process: asyncio.subprocess.Process

    async def command(self, *arguments: str) -> str:
        """Run a serf command against it; its output."""
        return (await self.run(*arguments))[1]

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run a serf command against it; its exit code and output."""
        verb, *rest = arguments
        process = await asyncio.create_subprocess_exec(
            "serf",
            verb,
            f"-rpc-addr={self.rpc}",
            *rest,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(20):
            output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def answers(self) -> bool:
        """Whether it is up: its own list has itself."""
        return self.name in await self.members()

    async def members(self) -> dict[str, dict[str, object]]:
        """What `serf members` shows, by name."""
        answer = json.loads(await self.command("members", "-format=json"))
        return {member["name"]: member for member in answer["members"]}

    async def status(self, name: str) -> object:
        """A member's status as serf sees it."""
        return (await self.members()).get(name, {}).get("status")


@asynccontextmanager
async def serf_agent(
    tmp_path: Path, keys: tuple[bytes, ...] = (), *arguments: str
) -> AsyncIterator[SerfAgent]:
    """Start a serf agent at an address of its own; killed at the end."""
    require("serf")
    number = next(_numbers)
    host = f"127.12.{1 + number // 250}.{number % 250 + 1}"
    address, rpc = f"{host}:{free_port(host)}", f"{host}:{free_port(host)}"
    encrypt = [f"-encrypt={base64.b64encode(keys[0]).decode()}"] if keys else []
    with (tmp_path / f"serf-{number}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "serf",
            "agent",
            "-profile=local",
            f"-node=serf{number}",
            f"-bind={address}",
            f"-rpc-addr={rpc}",
            "-tag=role=web",
            *encrypt,
            *arguments,
            stdout=log,
            stderr=log,
        )
    agent = SerfAgent(f"serf{number}", address, rpc, process)
    try:
        await until(agent.answers)
        yield agent
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(fact: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Wait for a fact that takes a command to see."""
    waiting: Callable[[], bool | Awaitable[bool]] = fact
    await eventually(waiting, timeout_s, interval_s=0.1)
