"""Hubs as local processes: ours, and nginx with nchan. Linux.

Everything started here is ended here. Processor time and memory are those of a hub's process and
its children, from /proc.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from callboard.files import create
from callboard.pki import certificates
from callboard.pki.roles import LOOPBACK, Names

READY_TIMEOUT_S = 20.0
FILES_WANTED = 20_000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MODULES = Path("/usr/share/nginx/modules")
"""Where Debian's nginx has its modules."""

NGINX_CONF = """
load_module {modules}/ngx_nchan_module.so;
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections {files}; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  nchan_shared_memory_size 256M;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} {ssl} backlog=4096;
    {certificate}
    location ~ ^/subscribe/(.*)$ {{
      nchan_subscriber eventsource;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
    }}
    location ~ ^/publish/(.*)$ {{
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 100;
      nchan_message_timeout 1m;
    }}
  }}
}}
"""


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def raise_files(wanted: int = FILES_WANTED) -> int:
    """Let this process, and those it starts, open so many files; how many it may. Says so when
    they are fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    elif soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed < wanted:
        print(f"{allowed} files may be open (ulimit -n), {wanted} are wanted: fewer subscribers")
    return allowed


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key, in `folder`."""
    now, issuer_key, key = datetime.now(UTC), certificates.new_key(), certificates.new_key()
    issuer = certificates.authority(issuer_key, "benchmark", now)
    names = Names(("localhost",), LOOPBACK)
    leaf = certificates.leaf(
        key.public_key(), names, issuer, issuer_key, now, common_name="benchmark"
    )
    places = folder / "server.crt.pem", folder / "server.key.pem"
    bodies = certificates.pem(leaf), certificates.key_pem(key)
    for place, body in zip(places, bodies, strict=True):
        with create(place) as file:
            file.write(body)
    return places


class Hub:
    """One hub; `with` starts and ends it. Subclasses say how it is started, and its paths."""

    name = ""
    subscribe_path = ""
    publish_path = ""

    def __init__(self, folder: Path, tls: tuple[Path, Path] | None = None) -> None:
        """`folder`: for logs, configuration and data. `tls`: certificate and key."""
        self.folder = folder
        self.tls = tls
        self.port = free_port()
        self.publish_headers: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """How it is started."""
        raise NotImplementedError

    def place(self, path: str) -> str:
        """Where a path of it is, as the load takes it."""
        return f"{'tls:' if self.tls else ''}127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill(signal.SIGTERM)

    def start(self) -> None:
        """Start it (again, with its data), and wait until it listens."""
        log = self.folder / f"{self.name}.log"
        environment = {**os.environ}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(), stdout=output, stderr=output, env=environment
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self._process.kill()
        last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise TimeoutError(f"{self.name} does not listen:\n{last}")

    def kill(self, how: signal.Signals) -> None:
        """End it and wait for it."""
        assert self._process is not None
        self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def pids(self) -> list[int]:
        """The process and its children."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_s(self) -> float:
        """Processor seconds, user and system, so far."""
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS_PER_S

    def resident_bytes(self) -> int:
        """Resident memory (without the kernel's buffers)."""
        pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self.pids())
        return sum(map(int, pages)) * PAGE_BYTES

    def sockets(self) -> int:
        """How many sockets it has open."""
        count = 0
        for pid in self.pids():
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    count += str(entry.readlink()).startswith("socket:")
                except FileNotFoundError:
                    continue
        return count


class Nchan(Hub):
    """nginx with nchan, one worker, messages in memory."""

    name = "nchan"
    subscribe_path = "/subscribe/"
    publish_path = "/publish/"

    def command(self) -> list[str]:
        certificate = ""
        if self.tls:
            certificate = f"ssl_certificate {self.tls[0]}; ssl_certificate_key {self.tls[1]};"
        text = NGINX_CONF.format(
            modules=MODULES,
            folder=self.folder,
            port=self.port,
            files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            ssl="ssl" if self.tls else "",
            certificate=certificate,
        )
        place = self.folder / "nginx.conf"
        place.write_text(text)
        return ["nginx", "-c", str(place), "-p", str(self.folder)]


class Callboard(Hub):
    """Ours, alone, as it is by default but for what `options` say."""

    name = "callboard"
    subscribe_path = "/t/"
    publish_path = "/t/"

    def __init__(
        self,
        folder: Path,
        tls: tuple[Path, Path] | None = None,
        acknowledge: str = "memory",
        options: tuple[str, ...] = (),
    ) -> None:
        super().__init__(folder, tls)
        self.options = (f"-acknowledge={acknowledge}", "-publish-rate=0", *options)
        self.name = f"callboard-{acknowledge}"

    def start(self) -> None:
        """See Hub. By TLS publishing takes a token."""
        super().start()
        if self.tls:
            sign = [sys.executable, "-m", "callboard.hub", "token", "-publish=*"]
            sign += ["-expires=1h", f"-data-dir={self.folder / self.name}"]
            made = subprocess.run(sign, capture_output=True, text=True, check=True)
            self.publish_headers = (f"Authorization: Bearer {made.stdout.strip()}",)

    def command(self) -> list[str]:
        command = [sys.executable, "-m", "callboard.hub"]
        command += [f"-port={self.port}", f"-data-dir={self.folder / self.name}", *self.options]
        if self.tls:
            command += [f"-tls-cert={self.tls[0]}", f"-tls-key={self.tls[1]}"]
        return command


def peer_is_here() -> bool:
    """Whether nginx with nchan can be run, installed where that may be; says what is missing."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=False)
    if shutil.which("nginx") and (MODULES / "ngx_nchan_module.so").exists():
        return True
    print("no peer: nginx with nchan is not here (apt-get install nginx libnginx-mod-nchan)")
    return False
