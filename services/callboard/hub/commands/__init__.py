"""The verbs of `callboard` that speak with a hub, or for it."""
