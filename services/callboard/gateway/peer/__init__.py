"""The transport to one browser: ICE-lite, DTLS and SRTP joined."""
