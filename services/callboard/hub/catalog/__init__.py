"""The catalog as topics: their values, the latest changes, and the feed they come from."""
