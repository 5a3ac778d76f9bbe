#!/usr/bin/env bash
# Sends a test pattern by plain RTP to a gateway's stream `gst-script`: no sidecar, no lease.
# Usage: gst-test-pattern.sh [HOST [VIDEO_PORT [AUDIO_PORT]]]
set -euo pipefail
exec gst-launch-1.0 -q \
  videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=25/1 \
  ! vp8enc deadline=1 cpu-used=8 target-bitrate=900000 end-usage=cbr keyframe-max-dist=50 \
    error-resilient=partitions \
  ! rtpvp8pay pt=96 mtu=1200 picture-id-mode=2 \
  ! udpsink host="${1:-127.0.0.1}" port="${2:-5004}" sync=false \
  audiotestsrc is-live=true samplesperbuffer=960 volume=0.1 ! audio/x-raw,rate=48000,channels=2 \
  ! opusenc frame-size=20 bitrate=32000 ! rtpopuspay pt=111 mtu=1200 \
  ! udpsink host="${1:-127.0.0.1}" port="${3:-5002}" sync=false
