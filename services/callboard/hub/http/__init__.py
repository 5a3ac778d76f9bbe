"""The hub's HTTP API: publishing before routing, all else as a FastAPI application."""
