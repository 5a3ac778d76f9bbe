// What the pages say of a player, and what is said to them in addresses.

const NUMBERS = { minimumFractionDigits: 0, maximumFractionDigits: 2 };

// A part of an address.
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a lone % is itself
  }
}

export const megabits = (bitsPerSecond) =>
  `${(bitsPerSecond / 1e6).toLocaleString("en", NUMBERS)} Mbit/s`;

export const slowWords = ({ needs, gets }) =>
  `link too slow: needs ${megabits(needs)}, gets ${megabits(gets)}`;

export const stateWords = { idle: "not playing", ended: "stopped" };

// One line of figures.
export function figuresOf(player) {
  const { fps, bitsPerSecond, jitterBufferMs, width, height, codecs, protocol } = player.statistics;
  const known = (value) => Number.isFinite(value);
  const parts = [];
  if (player.firstFrameMs !== null) {
    parts.push(`first picture after ${Math.round(player.firstFrameMs)} ms`);
  }
  if (known(fps) && width) parts.push(`${width}×${height}`, `${Math.round(fps)} pictures/s`);
  if (known(bitsPerSecond)) parts.push(megabits(bitsPerSecond));
  if (known(jitterBufferMs)) parts.push(`jitter buffer ${Math.round(jitterBufferMs)} ms`);
  if (codecs?.length) parts.push(codecs.join(", "));
  if (protocol) parts.push(protocol);
  return parts.join(" · ");
}
