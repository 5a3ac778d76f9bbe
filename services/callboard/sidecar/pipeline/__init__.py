"""GStreamer pipelines: what they are made of as text (pure), and running them (`running`)."""
