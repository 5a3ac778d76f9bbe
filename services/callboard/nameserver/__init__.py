"""The DNS front: answers from its own copy of the catalog, so it outlives the agents."""
