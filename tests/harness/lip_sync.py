"""Whether picture and sound of the test pattern belong together where they come out of a browser.

    apart_ms = await lip_sync(page, seconds=30)     # of each flash, its beep's time less its own

A flash is seen when the browser means to show its picture (requestVideoFrameCallback); a beep is
heard when its first sample comes out of the connection, into a graph of Web Audio. Both are read
past the player.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.harness.playing import Watching

from callboard.gateway.sources.picture import HEIGHT, PATCH, WIDTH

QUIET_S = 0.3
"""Between beeps; what is loud after less is the same one."""
LOUD = 0.15
"""Amplitude; the beep has 0.4 and the tone between 0.03."""
NEAR_MS = 400.0
"""A flash and a beep that are further apart are not of one second."""

_WATCH = """async ([seconds, left, top, loud, quiet]) => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas');
  canvas.width = canvas.height = 8;
  const drawing = canvas.getContext('2d', {willReadFrequently: true});
  const context = new AudioContext(), analyser = context.createAnalyser();
  await context.resume();
  analyser.fftSize = 32768;
  context.createMediaStreamSource(new MediaStream(video.srcObject.getAudioTracks()))
    .connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const flashes = [], beeps = [], until = performance.now() + 1000 * seconds;
  let white = true, heardAt = -Infinity, doneAt = context.currentTime + 0.7;
  const listen = () => {
    analyser.getFloatTimeDomainData(samples);
    const [now, at] = [performance.now(), context.currentTime];
    for (let index = 0; index < samples.length; index += 1) {
      const moment = at - (samples.length - index) / context.sampleRate;
      if (moment <= doneAt || Math.abs(samples[index]) < loud) continue;
      if (moment - heardAt > quiet) beeps.push(now - 1000 * (at - moment));
      heardAt = moment;
    }
    doneAt = Math.max(doneAt, at - 1 / context.sampleRate);
  };
  const timer = setInterval(listen, 100);
  await new Promise((done) => {
    const look = (now, {expectedDisplayTime}) => {
      const [x, y] = [left * video.videoWidth, top * video.videoHeight];
      drawing.drawImage(video, x, y, 8, 8, 0, 0, 8, 8);
      const bright = drawing.getImageData(4, 4, 1, 1).data[1] > 127;
      if (bright && !white) flashes.push(expectedDisplayTime);
      white = bright;
      if (now < until) video.requestVideoFrameCallback(look); else done();
    };
    video.requestVideoFrameCallback(look);
    setTimeout(done, 1000 * seconds + 5000);
  });
  clearInterval(timer);
  listen();
  await context.close();
  return [flashes, beeps];
}"""


@dataclass(frozen=True, slots=True)
class LipSync:
    """What was seen and heard, in milliseconds of the page's clock."""

    flashes: tuple[float, ...]
    beeps: tuple[float, ...]

    @property
    def apart_ms(self) -> list[float]:
        """Of each flash that has a beep: how much later that is; negative: earlier."""
        pairs = (min((beep - flash for beep in self.beeps), key=abs) for flash in self.flashes)
        return [apart for apart in pairs if abs(apart) < NEAR_MS] if self.beeps else []


async def lip_sync(page: Watching, seconds: float) -> LipSync:
    """Watch and listen to a page that plays the test pattern."""
    left, top = (PATCH[0] + PATCH[2] / 2) / WIDTH, (PATCH[1] + PATCH[3] / 2) / HEIGHT
    flashes, beeps = await page.run(_WATCH, [seconds, left, top, LOUD, QUIET_S])
    return LipSync(tuple(flashes), tuple(beeps))
