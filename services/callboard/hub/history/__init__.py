"""The hub's own updates: a ring in memory before a store, in one order."""
