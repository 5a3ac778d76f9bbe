"""A picture of a stream, as JPEG: its newest keyframe, decoded by FFmpeg."""
