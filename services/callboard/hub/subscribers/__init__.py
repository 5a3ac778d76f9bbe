"""Readers: who gets what, how they catch up, and when they are cut."""
