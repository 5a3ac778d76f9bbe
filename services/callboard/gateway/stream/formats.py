"""What the gateway must know of a codec to pass it on: where keyframes begin, how to split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callboard.gateway.stream.keyframes import av1, h264, h265, opaque, vp8, vp9
from callboard.gateway.stream.splitting import av1 as av1_splitting
from callboard.gateway.stream.splitting import h264 as h264_splitting
from callboard.gateway.stream.splitting import h265 as h265_splitting
from callboard.gateway.stream.splitting import samples, whole
from callboard.gateway.stream.splitting import vp8 as vp8_splitting
from callboard.gateway.stream.splitting import vp9 as vp9_splitting

Inspect = Callable[[bytes], tuple[bool, Sequence[tuple[int, bytes]]]]


@dataclass(frozen=True, slots=True)
class ParameterSetRules:
    """Of a codec whose decoders need parameter sets before a keyframe."""

    kinds: tuple[int, ...]
    """NAL unit types, in the order in which a decoder needs them."""
    inspect: Inspect
    """For a payload: whether a keyframe's slice begins in it, and the sets in it by type."""
    bundle: Callable[[list[bytes], int], list[bytes] | None]
    """Payloads of NAL units, none longer than a limit."""


@dataclass(frozen=True, slots=True)
class Format:
    """A codec as the stream core sees it."""

    name: str
    """In capitals."""
    clock_rate: int
    """Of timestamps, per second."""
    is_video: bool
    begins_keyframe: Callable[[bytes], bool]
    split: Callable[[bytes, int], list[bytes] | None]
    """See callboard.gateway.stream.splitting."""
    parameter_sets: ParameterSetRules | None = None
    bytes_per_tick: int = 0
    """Of audio whose packets can be cut between samples: bytes of payload per unit of the clock;
    0: all parts of a packet have its timestamp."""


_Codec = tuple[
    Callable[[bytes], bool],
    Callable[[bytes, int], list[bytes] | None],
    ParameterSetRules | None,
]

_H264 = ParameterSetRules(h264.PARAMETER_SETS, h264.inspect, h264_splitting.bundle)
_H265 = ParameterSetRules(h265.PARAMETER_SETS, h265.inspect, h265_splitting.bundle)
_VIDEO: dict[str, _Codec] = {
    "VP8": (vp8.begins_keyframe, vp8_splitting.split, None),
    "VP9": (vp9.begins_keyframe, vp9_splitting.split, None),
    "H264": (h264.begins_keyframe, h264_splitting.split, _H264),
    "H265": (h265.begins_keyframe, h265_splitting.split, _H265),
    "AV1": (av1.begins_keyframe, av1_splitting.split, None),
}
_SAMPLES = frozenset({"PCMU", "PCMA"})


def format_of(name: str, clock_rate: int, *, is_video: bool, channels: int = 1) -> Format:
    """The format of a codec as a=rtpmap names it, in any case. Any audio is passed on; raises
    ValueError for video whose keyframes are not known, or a clock rate below one."""
    name = name.upper()
    if clock_rate < 1:
        raise ValueError(f"{name}: a clock rate of {clock_rate}")
    if is_video:
        known = _VIDEO.get(name)
        if known is None:
            raise ValueError(f"video codec {name}: {', '.join(_VIDEO)} can be passed on")
        begins, split, sets = known
        return Format(name, clock_rate, True, begins, split, sets)
    if name in _SAMPLES and channels == 1:
        return Format(
            name, clock_rate, False, opaque.begins_keyframe, samples.split, bytes_per_tick=1
        )
    return Format(name, clock_rate, False, opaque.begins_keyframe, whole.split)
