"""A real PostgreSQL server of Debian's, in a folder of its own, for as long as a test wants it.

It refuses to run as root, so root hands it to an unprivileged user. It listens on a socket in its
folder and on a free port of loopback, and ends with who started it.
"""

from __future__ import annotations

import itertools
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.sockets import free_port

PLACES = Path("/usr/lib/postgresql")
OWNER = "callboard"
IN_MEMORY = Path("/dev/shm")
"""Where a server's syncs cost nothing."""
UNPRIVILEGED = ("postgres", "nobody")
"""Who runs it for root: the first of them that there is."""


def programs() -> Path | None:
    """Return the folder of the newest server's programs; None where none is installed."""
    found = [place for place in PLACES.glob("*/bin") if (place / "initdb").exists()]
    return max(found, key=lambda place: float(place.parent.name), default=None)


class PostgresServer:
    """One server. Its folder is `folder`, the data in `folder/data`, the log in `folder/log`."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        initdb: Sequence[str] = (),
    ) -> None:
        """Make the data directory, if there is none, with further flags of `initdb`; start
        nothing. `environment` is added to the server's."""
        found = programs()
        assert found is not None
        self._programs = found
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = itertools.count(1)
        self._user = _unprivileged()
        folder.mkdir(parents=True, exist_ok=True)
        self._give(folder, deep=False)
        if self.data.exists():
            self._give(self.data)
        else:
            made = ("-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
            self._run("initdb", "-D", str(self.data), *made, *initdb)

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{database}"

    def start(self, *settings: str) -> None:
        """Start it, with further settings (`name=value`), and return at once."""
        assert self._process is None
        given = (
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self.folder}",
            "dynamic_shared_memory_type=mmap",  # in its folder, which goes with it
            *settings,
        )
        flags = [flag for setting in given for flag in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user("postgres", "-D", str(self.data), *flags),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment, "TZ": "UTC"},
            )

    @property
    def runs(self) -> bool:
        """Whether it was started, and not stopped."""
        return self._process is not None

    def answers(self) -> bool:
        """Say whether it takes connections. Raises what psycopg raises if it does not."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"it ended: {self.log()[-2000:]}")
        with psycopg.connect(self.url("template1"), connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)

    def wait_ready(self) -> None:
        """Return once it takes connections."""
        eventually_sync(self.answers, 20.0, 0.02)

    def database(self, *settings: str) -> str:
        """Make an empty database, with settings (`name = value`) of its own; its address."""
        name = f"hub{next(self._databases)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            for setting in settings:
                connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())
        return self.url(name)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it: SIGQUIT at once, as after a crash; SIGINT with all that is open rolled back."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(20 * SLOW)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end: {self.log()[-2000:]}") from None
        self._process = None

    def kill(self) -> None:
        """End all its processes where they stand (SIGKILL)."""
        process, self._process = self._process, None
        if process is None:
            return
        mine = [process.pid, *_children(process.pid)]
        process.send_signal(signal.SIGSTOP)  # it starts none meanwhile
        mine += [pid for pid in _children(process.pid) if pid not in mine]
        for pid in mine:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(20 * SLOW)
        eventually_sync(lambda: not any(map(_lives, mine)), 20.0, 0.002)
        self._release_memory(process.pid)

    def log(self) -> str:
        """Return what it has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def _release_memory(self, pid: int) -> None:
        """What a killed server leaves to the kernel: the next one on this folder would take it,
        but not every folder has a next one."""
        noted = self.data / "postmaster.pid"
        lines = noted.read_text().splitlines() if noted.exists() else []
        if len(lines) > 6 and lines[0] == str(pid) and len(key_and_id := lines[6].split()) == 2:
            subprocess.run(["ipcrm", "-m", key_and_id[1]], capture_output=True, check=False)

    def _give(self, path: Path, *, deep: bool = True) -> None:
        """Make the user who runs it the owner."""
        if self._user is None:
            return
        inside = path.rglob("*") if deep else ()
        for one in (path, *inside):
            os.chown(one, self._user.pw_uid, self._user.pw_gid, follow_symlinks=False)

    def _run(self, *argv: str) -> None:
        subprocess.run(
            self._as_user(*argv), check=True, capture_output=True, cwd=self.folder, timeout=60
        )

    def _as_user(self, program: str, *argv: str) -> list[str]:
        command = [str(self._programs / program), *argv]
        if self._user is None:
            return command
        ids = (f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups")
        return ["setpriv", "--pdeathsig", "QUIT", *ids, "--", *command]


@contextmanager
def serving(
    *settings: str, environment: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """Run a server until the block ends."""
    # not pytest's folder: that is the tester's alone, and the server is another user
    where = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(
        prefix="callboard-postgres-", dir=where, ignore_cleanup_errors=True
    ) as at:
        Path(at).chmod(0o755)
        server = PostgresServer(Path(at) / "server", environment)
        server.start(*settings)
        try:
            server.wait_ready()
            yield server
        finally:
            server.stop()


def _unprivileged() -> pwd.struct_passwd | None:
    """Who runs the server; None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError(f"none of the users {UNPRIVILEGED}")


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(word) for word in text.split()]


def _lives(pid: int) -> bool:
    """Whether a process still runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
