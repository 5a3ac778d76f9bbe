"""An ICE-lite agent (RFC 8445) and the STUN (RFC 8489) that it speaks: bytes in, bytes out."""
