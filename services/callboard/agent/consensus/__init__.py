"""Consensus: the driver round the pure Raft core, its log on disk, its snapshots.

`libs/callboard/raft` decides; what is here does: it writes, sends, applies and measures time.
"""
