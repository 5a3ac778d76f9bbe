"""The hub: what is happening, as server-sent events. Mercure-compatible, durable, resumable."""
