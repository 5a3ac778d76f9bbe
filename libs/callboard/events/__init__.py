"""Server-sent events: encoder, parser, and a client that resumes (sync and async)."""
