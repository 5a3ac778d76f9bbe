"""Media events, and how they get to a hub."""
