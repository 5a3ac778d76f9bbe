"""The gateway: RTP in, WebRTC out to many. WHEP, WHIP and Janus' streaming API."""
