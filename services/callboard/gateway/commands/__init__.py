"""The verbs of `callboard gateway`."""
