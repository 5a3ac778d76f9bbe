"""The servers: the gateway, native and plain, and Janus of Debian, as it is and tuned. Each gets
the recorded stream at the same two ports, and sends it by the interface that leads to the viewers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.servers import Server
from benchmarks.live.audience import Place
from benchmarks.live.namespaces import SERVER
from benchmarks.live.recording import AUDIO_PAYLOAD_TYPE, VIDEO_PAYLOAD_TYPE

NATIVE, PLAIN = "gateway, C helper", "gateway, Python"
DEFAULT, TUNED = "Janus, default", "Janus, tuned"
VIDEO_PORT, AUDIO_PORT = 5004, 5002
JANUS_PORT, GATEWAY_PORT = 8088, 8889
JANUS_FOLDER = next(Path("/usr/lib").glob("*-linux-gnu*/janus"), Path("/usr/lib/janus"))
"""Of Debian's package."""

JANUS_CONF = """
general: {{
  configs_folder = "{folder}"
  plugins_folder = "{janus}/plugins"
  transports_folder = "{janus}/transports"
  debug_level = 2
  {more}
}}
nat: {{ nice_debug = false }}
plugins: {{ disable = "{plugins}" }}
transports: {{ disable = "{transports}" }}
"""
STREAMING_CONF = """
recorded: {{
  type = "rtp"
  id = 1
  audio = true
  video = true
  audioport = {audio_port}
  audiopt = {audio_type}
  audiocodec = "opus"
  videoport = {video_port}
  videopt = {video_type}
  videocodec = "vp8"
}}
"""
HTTP_CONF = f"""
general: {{ json = "compact", base_path = "/janus", http = true, port = {JANUS_PORT} }}
"""


def janus_is_here() -> bool:
    """Whether Debian's is installed."""
    return shutil.which("janus") is not None and JANUS_FOLDER.is_dir()


class LiveServer(Server):
    """A server, and the process that sends it the stream."""

    def __init__(
        self, name: str, command: Sequence[str], port: int, folder: Path, place: Place
    ) -> None:
        super().__init__(name, command, port, folder / f"{name.replace(' ', '-')}.log")
        self.place = place
        self.stream: Path | None = None
        """The recording; to be set before the start."""
        self._sender: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """See Server."""
        super().start()
        assert self.stream is not None
        command = [sys.executable, "-m", "benchmarks.live.replay", str(self.stream), "127.0.0.1"]
        self._sender = subprocess.Popen([*command, str(VIDEO_PORT), str(AUDIO_PORT)])

    def __exit__(self, *problem: object) -> None:
        if self._sender is not None:
            self._sender.kill()
            self._sender.wait()
            self._sender = None
        super().__exit__(*problem)


class Gateway(LiveServer):
    """Ours, by what sends to viewers: NATIVE or PLAIN."""

    def __init__(self, folder: Path, name: str) -> None:
        fanout = {NATIVE: "native", PLAIN: "plain"}[name]
        command = [
            *(sys.executable, "-m", "callboard.gateway", f"-fanout={fanout}"),
            *("-bind=0.0.0.0", f"-port={GATEWAY_PORT}", "-allow-plain", "-log-level=warn"),
            *(f"-advertise-ips={SERVER}", "-janus-port=-1", "-janus-ws-port=-1"),
            *(f"-rtp-port={VIDEO_PORT}", f"-rtp-audio-port={AUDIO_PORT}"),
        ]
        place = Place("whep", f"http://{SERVER}:{GATEWAY_PORT}/whep/gst-script")
        super().__init__(name, command, GATEWAY_PORT, folder, place)


class Janus(LiveServer):
    """Debian's, with its defaults but for logs, and only what is used is loaded. TUNED: one event
    loop for all viewers in place of a thread for each."""

    def __init__(self, folder: Path, name: str) -> None:
        conf = folder / name.replace(", ", "-")
        conf.mkdir()
        texts = {
            "janus.jcfg": JANUS_CONF.format(
                folder=conf,
                janus=JANUS_FOLDER,
                more="event_loops = 1" if name == TUNED else "",
                plugins=_others("plugins", "libjanus_streaming.so"),
                transports=_others("transports", "libjanus_http.so"),
            ),
            "janus.plugin.streaming.jcfg": STREAMING_CONF.format(
                audio_port=AUDIO_PORT,
                audio_type=AUDIO_PAYLOAD_TYPE,
                video_port=VIDEO_PORT,
                video_type=VIDEO_PAYLOAD_TYPE,
            ),
            "janus.transport.http.jcfg": HTTP_CONF,
        }
        for file, text in texts.items():
            (conf / file).write_text(text)
        command = ["janus", "-F", str(conf), "-C", str(conf / "janus.jcfg")]
        place = Place("janus", f"http://{SERVER}:{JANUS_PORT}/janus")
        super().__init__(name, command, JANUS_PORT, folder, place)


def _others(kind: str, wanted: str) -> str:
    """All libraries of a kind but the one that is wanted."""
    return ",".join(
        sorted(path.name for path in (JANUS_FOLDER / kind).glob("*.so") if path.name != wanted)
    )
