"""Hubs as local processes: ours, and nginx with nchan."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.servers import Certified, Server, free_ports

FILES_WANTED = 20_000
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


class Hub(Server):
    """One hub. Subclasses say how it is started, and its paths."""

    subscribe_path = ""
    publish_path = ""

    def __init__(
        self, name: str, command: Sequence[str], port: int, folder: Path, tls: Certified | None
    ) -> None:
        """`folder`: for logs, configuration and data."""
        super().__init__(name, command, port, folder / f"{name}.log")
        self.tls = tls
        self.publish_headers: tuple[str, ...] = ()

    def place(self, path: str) -> str:
        """Where a path of it is, as the load takes it."""
        return f"{'tls:' if self.tls else ''}127.0.0.1:{self.port}{path}"


class Nchan(Hub):
    """nginx with nchan, one worker, messages in memory."""

    subscribe_path = "/subscribe/"
    publish_path = "/publish/"

    def __init__(self, folder: Path, tls: Certified | None = None) -> None:
        (port,) = free_ports(1)
        certificate = ""
        if tls:
            certificate = f"ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key};"
        text = NGINX_CONF.format(
            modules=MODULES,
            folder=folder,
            port=port,
            files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            ssl="ssl" if tls else "",
            certificate=certificate,
        )
        place = folder / "nginx.conf"
        place.write_text(text)
        super().__init__("nchan", ["nginx", "-c", str(place), "-p", str(folder)], port, folder, tls)


class Callboard(Hub):
    """Ours, alone, as it is by default but for what `options` say."""

    subscribe_path = "/t/"
    publish_path = "/t/"

    def __init__(
        self,
        folder: Path,
        tls: Certified | None = None,
        acknowledge: str = "memory",
        options: tuple[str, ...] = (),
    ) -> None:
        (port,) = free_ports(1)
        name = f"callboard-{acknowledge}"
        self._data = folder / name
        command = [sys.executable, "-m", "callboard.hub", f"-port={port}"]
        command += [f"-data-dir={self._data}", f"-acknowledge={acknowledge}", "-publish-rate=0"]
        if tls:
            command += [f"-tls-cert={tls.certificate}", f"-tls-key={tls.key}"]
        super().__init__(name, [*command, *options], port, folder, tls)

    def start(self) -> None:
        """See Server. By TLS publishing takes a token."""
        super().start()
        if self.tls:
            sign = [sys.executable, "-m", "callboard.hub", "token", "-publish=*"]
            sign += ["-expires=1h", f"-data-dir={self._data}"]
            made = subprocess.run(sign, capture_output=True, text=True, check=True)
            self.publish_headers = (f"Authorization: Bearer {made.stdout.strip()}",)


def peer_is_here() -> bool:
    """Whether nginx with nchan can be run, installed where that may be; says what is missing."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=False)
    if shutil.which("nginx") and (MODULES / "ngx_nchan_module.so").exists():
        return True
    print("no peer: nginx with nchan is not here (apt-get install nginx libnginx-mod-nchan)")
    return False
