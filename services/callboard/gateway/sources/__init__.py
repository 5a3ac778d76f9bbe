"""Where streams come from: sidecars of the catalog, configured ports, the built-in pattern."""
