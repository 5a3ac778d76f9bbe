"""The walk-through of the README, command by command, as a new user types it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile

import pytest
from make.programs import FILESERVER, GATEWAY, GATEWAY_PORT, HTTPS_PORT, HUB, HUB_PORT, ROOT
from tests.harness.capabilities import require
from tests.harness.sources import tracked
from tests.harness.stack import DNS_INSIDE_PORT, NAMESERVER, ExecResult, Stack

STREAM_S = 3
"""A stream is read so long; curl then ends with 28."""
TIME_OUT = 28
NOT_HERE = ("make", "git", "docker", "pip", "cd", "python3", "pytest")
"""First words of commands that start or install something: `make up` itself, the tests …"""


def commands_in(text: str) -> list[str]:
    """Return the commands of a document: lines after `$ ` in its console blocks."""
    blocks = re.findall(r"^```(?:console|sh|shell|bash)\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line[2:].partition("   #")[0].strip() for line in lines if line.startswith("$ ")]


def tries() -> list[str]:
    """Return the commands that `make up` prints."""
    lines = (ROOT / "make" / "what-to-try.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.startswith("  ")]


def run(stack: Stack, command: str) -> ExecResult:
    """Run a command as typed, at this stack's ports instead of the usual ones."""
    for number, usual in enumerate(("8500", "18500", "28500"), start=1):
        host, port = stack.addr(f"agent-{number}", 8500)
        command = re.sub(rf"(localhost|127\.0\.0\.1):{usual}\b", f"{host}:{port}", command)
    for service, usual_port in ((HUB, HUB_PORT), (GATEWAY, GATEWAY_PORT)):
        host, port = stack.addr(service, usual_port)
        command = command.replace(f"localhost:{usual_port}", f"{host}:{port}")
    command = command.replace("curl -N", f"curl -N --max-time {STREAM_S}").removesuffix("&")
    command = re.sub("^curl ", "curl --fail-with-body ", command)  # a refusal is no success
    host, port = stack.addr(NAMESERVER, DNS_INSIDE_PORT, "udp")
    if "+tcp" in command:
        host, port = stack.addr(NAMESERVER, DNS_INSIDE_PORT, "tcp")
    command = command.replace("@127.0.0.1 -p 8600", f"@{host} -p {port}")
    host, port = stack.addr(FILESERVER, HTTPS_PORT)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
        authority.write(stack.authority())
        authority.flush()
        trusting = f"--cacert {authority.name} --connect-to localhost:1443:{host}:{port}"
        return _run(stack, command.replace("--cacert certs/out/ca.pem", trusting))


def _run(stack: Stack, command: str) -> ExecResult:
    if command.startswith("./callboard "):
        return stack.exec("agent-1", shlex.split(command.removeprefix("./")))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    streamed = " -N " in command and done.returncode == TIME_OUT and done.stdout
    return ExecResult(0 if streamed else done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", tries())
def test_what_make_up_prints_works(stack: Stack, command: str) -> None:
    require(*({"curl", "dig"} & {command.split(maxsplit=1)[0]}))
    result = run(stack, command)
    assert result.code == 0, result
    assert result.out.strip(), result
    if command.startswith("dig"):
        assert "status: NOERROR" in result.out, result.out
        assert ";; ANSWER SECTION:" in result.out, result.out


def _documented() -> list[tuple[str, str]]:
    documents = ["README.md", *(p for p in tracked() if re.match(r"docs/[^/]+\.md$", p))]
    return [
        (document, command)
        for document in documents
        for command in commands_in((ROOT / document).read_text("utf-8"))
        if command.split()[0] not in NOT_HERE
    ]


@pytest.mark.parametrize(("document", "command"), _documented())
def test_commands_in_documents_work(stack: Stack, document: str, command: str) -> None:
    require(*({"curl", "dig"} & {command.split(maxsplit=1)[0]}))
    result = run(stack, command)
    assert result.code == 0, f"{document}: {result}"


def test_members_lists_all_agents_alive(stack: Stack) -> None:
    lines = stack.exec("agent-1", ["callboard", "members"]).out.splitlines()
    assert lines[0].split()[:4] == ["Node", "Address", "Status", "Type"]
    rows = {line.split()[0]: line.split()[2:4] for line in lines[1:]}
    assert rows == {
        "agent-1": ["alive", "server"],
        "agent-2": ["alive", "server"],
        "agent-3": ["alive", "server"],
        "agent-4": ["alive", "client"],
    }
