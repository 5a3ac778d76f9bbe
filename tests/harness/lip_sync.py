"""Whether picture and sound of the test pattern belong together where they come out of a browser.

    seen = await lip_sync(page, seconds=30)
    seen.apart_ms                      # of each flash, its beep's time less its own

A flash is seen when the browser means to show its picture (requestVideoFrameCallback). A beep is
heard when its first sample has left the connection (the timestamp of its AudioData) and gone
through the sound device (AudioContext.outputLatency), which a browser counts when it brings the two
together. Both are read past the player. Web Audio would not do: its source of a MediaStream keeps
as many blocks of sound as a busy moment has left in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.harness.playing import Watching

from callboard.gateway.sources.picture import HEIGHT, PATCH, WIDTH

QUIET_MS = 300.0
"""Between beeps; what is loud after less is the same one."""
LOUD = 0.15
"""Amplitude; the beep has 0.4 and the tone between 0.03."""
NEAR_MS = 400.0
"""A flash and a beep that are further apart are not of one second."""

_WATCH = """async ([seconds, left, top, loud, quiet]) => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas');
  canvas.width = canvas.height = 8;
  const drawing = canvas.getContext('2d', {willReadFrequently: true});
  const context = new AudioContext();
  await context.resume();
  const track = video.srcObject.getAudioTracks()[0].clone();
  const processor = new MediaStreamTrackProcessor({track, maxBufferSize: 500});
  const reader = processor.readable.getReader();
  const flashes = [], beeps = [], samples = new Float32Array(48000);
  const until = performance.now() + 1000 * seconds;
  let white = true, heardAt = performance.now() + 700;
  const listen = async () => {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      const {numberOfFrames, sampleRate, timestamp} = value;
      value.copyTo(samples, {planeIndex: 0, format: 'f32-planar'});
      value.close();
      for (let index = 0; index < numberOfFrames; index += 1) {
        if (Math.abs(samples[index]) < loud) continue;
        const moment = timestamp / 1000 + 1000 * index / sampleRate;
        if (moment - heardAt > quiet) beeps.push(moment + 1000 * context.outputLatency);
        heardAt = Math.max(heardAt, moment);
      }
    }
  };
  const listening = listen();
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
  await reader.cancel();
  await listening;
  track.stop();
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
    flashes, beeps = await page.run(_WATCH, [seconds, left, top, LOUD, QUIET_MS])
    return LipSync(tuple(flashes), tuple(beeps))
