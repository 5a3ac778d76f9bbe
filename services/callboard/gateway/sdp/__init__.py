"""Session descriptions (RFC 8866): browsers' offers, answers to them, ICE fragments. Pure."""
