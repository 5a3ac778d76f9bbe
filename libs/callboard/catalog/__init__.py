"""The catalog's objects and what both ends of it need: tables, JSON decoding and rendering.

Pure: no socket, clock, event loop or environment. Replication lives in the agent's `state`.
"""
