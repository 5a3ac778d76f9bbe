"""The sidecar: makes live streams with GStreamer, and sends RTP to gateways that hold a lease."""
