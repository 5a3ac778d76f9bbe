"""The agent's HTTP API (/v1): Consul's paths, parameters, headers, codes and texts.

Each endpoint is one handler of bytes; `application` mounts them in the server's fast lane and as
FastAPI routes. The catalog is seen through a `StateStore` and an `Engine` alone.
"""
