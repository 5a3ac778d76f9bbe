"""What gateway and sidecar say to each other. Standard library only: the sidecar has no more."""
