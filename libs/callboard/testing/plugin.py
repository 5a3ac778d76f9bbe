"""pytest plugin of Callboard: the fixtures of `callboard.testing`."""
