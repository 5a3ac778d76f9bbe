"""`consul keyring`, HashiCorp's own, and `callboard keyring` on one agent of ours, side by side."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.real_serf import serf_agent

from callboard.agent.service import Agent
from callboard.agent.settings import Ports, development

pytestmark = pytest.mark.slow

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
CALLBOARD = (sys.executable, "-m", "callboard.chassis.command")


def told(key: bytes) -> str:
    return base64.b64encode(key).decode()


@asynccontextmanager
async def pool(folder: Path, key: bytes = OLD) -> AsyncIterator[Agent]:
    """An agent of ours and one of serf's."""
    settings = replace(
        development("here"),
        data_dir=folder / "data",
        encrypt_key=key,
        ports=Ports(http=0, dns=0, server=0, serf_lan=0),
    )
    keys = (key,) if key else ()
    async with serf_agent(folder, keys) as serf:
        agent = Agent(settings)
        await agent.start()
        try:
            membership = agent.cluster.membership
            await membership.join([serf.address])
            await eventually(lambda: membership.member(serf.name) is not None)
            yield agent
        finally:
            await agent.stop()


async def keyring(agent: Agent, program: tuple[str, ...], *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors; white space at the ends of errors does not count."""
    process = await asyncio.create_subprocess_exec(
        *program,
        "keyring",
        *words,
        env={**os.environ, "CONSUL_HTTP_ADDR": f"http://127.0.0.1:{agent.http_port}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    words_of_errors = err.decode().replace("\n\n)", ")").split()
    return process.returncode or 0, out.decode(), " ".join(words_of_errors)


async def both(agent: Agent, *words: str) -> tuple[int, str, str]:
    """What both say to the same words, which must be the same."""
    theirs = await keyring(agent, ("consul",), *words)
    ours = await keyring(agent, CALLBOARD, *words)
    assert ours == theirs
    return ours


async def test_rotation_is_told_alike(tmp_path: Path) -> None:
    require("consul")
    async with pool(tmp_path) as agent:
        heading = "==> Gathering installed encryption keys...\n\ndc1 (LAN):\n"
        assert await both(agent, "-list") == (0, f"{heading}  {told(OLD)} [2/2]\n", "")
        for words in (("-install", NEW), ("-use", NEW), ("-remove", OLD)):
            code, _, errors = await both(agent, words[0], told(words[1]))  # no harm done twice
            assert (code, errors) == (0, "")
        assert await both(agent, "-list") == (0, f"{heading}  {told(NEW)} [2/2]\n", "")
        assert (await both(agent, "-list", "-local-only", "-relay-factor=1"))[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("-use", told(NEW)),
        ("-remove", told(OLD)),
        ("-install", "AAAA"),
        ("-install", "x!"),
        ("-list", "-use", told(OLD)),
        ("-list", "-relay-factor=9"),
        ("-install", told(NEW), "-local-only"),
    ],
    ids=" ".join,
)
async def test_failure_is_told_alike(tmp_path: Path, words: tuple[str, ...]) -> None:
    require("consul")
    async with pool(tmp_path) as agent:
        code, _, errors = await both(agent, *words)
        assert code == 1
        assert errors


async def test_cluster_without_keys_is_told_alike(tmp_path: Path) -> None:
    require("consul")
    async with pool(tmp_path, b"") as agent:
        code, _, errors = await both(agent, "-list")
        assert code == 1
        assert "Keyring is empty (encryption not enabled)" in errors


async def test_no_action_is_the_usage_and_exit_code_1(tmp_path: Path) -> None:
    require("consul")
    async with pool(tmp_path) as agent:
        for program in (("consul",), CALLBOARD):
            code, out, errors = await keyring(agent, program)
            assert (code, out) == (1, "")
            assert " keyring [options]" in errors
            assert errors.startswith("Usage: ")
