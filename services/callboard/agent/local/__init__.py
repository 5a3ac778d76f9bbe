"""The agent's own services and checks, and how they get into the catalog (ADR 0012)."""
