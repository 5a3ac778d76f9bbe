"""What a stream is made of, track by track: ingest, ring, GOP cache, keyframe requests. Pure."""
