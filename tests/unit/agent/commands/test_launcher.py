"""The launcher of a clean clone: the local environment, else the first running agent."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[4] / "callboard"

DOCKER = """#!/bin/sh
case "$*" in
  "compose version") exit 0 ;;
  *" ps "*) printf '%s' "$RUNNING" ;;
  *) shift 5; echo "$@"; [ -t 0 ] || cat ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copy(LAUNCHER, tmp_path / "callboard")
    (tmp_path / "docker-compose.yml").touch()
    (tmp_path / "bin").mkdir()
    return tmp_path


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run(
    clone: Path, *words: str, running: str = "", stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{clone}/bin:{os.defpath}", "RUNNING": running}
    return subprocess.run(
        [clone / "callboard", *words],
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def test_the_local_environment_comes_first(clone: Path) -> None:
    executable(clone / "bin" / "docker", DOCKER)
    executable(clone / ".venv" / "bin" / "callboard", '#!/bin/sh\necho local "$@"\n')
    assert run(clone, "members", "-detailed", running="agent-1\n").stdout == (
        "local members -detailed\n"
    )


def test_else_the_first_running_agent_is_asked(clone: Path) -> None:
    executable(clone / "bin" / "docker", DOCKER)
    done = run(clone, "kv", "get", "a b", running="nameserver\nagent-3\nagent-2\n")
    assert done.stdout == "exec -T agent-2 callboard kv get a b\n"


def test_the_hubs_own_verbs_are_for_its_container(clone: Path) -> None:
    executable(clone / "bin" / "docker", DOCKER)
    running = "agent-1\nhub-2\nhub\n"
    done = run(clone, "hub", "token", "-publish", "*", running=running)
    assert done.stdout == "exec -T hub callboard hub token -publish *\n"
    assert run(clone, "sub", "builds", running=running).stdout.startswith("exec -T agent-1 ")
    assert "no running hub" in run(clone, "hub", "doctor", running="agent-1\n").stderr


def test_a_pipe_stays_a_pipe(clone: Path) -> None:
    executable(clone / "bin" / "docker", DOCKER)
    done = run(clone, "kv", "put", "a", "-", running="agent-1\n", stdin="piped")
    assert done.stdout.endswith("piped")


def test_it_works_through_a_link(clone: Path, tmp_path: Path) -> None:
    executable(clone / ".venv" / "bin" / "callboard", "#!/bin/sh\necho local\n")
    link = tmp_path / "elsewhere"
    link.symlink_to(clone / "callboard")
    done = subprocess.run([link], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "local\n"


@pytest.mark.parametrize("engine", [True, False])
def test_without_either_it_says_what_to_do(clone: Path, engine: bool) -> None:
    if engine:
        executable(clone / "bin" / "docker", DOCKER)
    done = run(clone, "members")
    assert done.returncode == 1
    assert "try 'make up' or 'make run'" in done.stderr
