"""What we are, and the Consul whose interface we speak."""

from __future__ import annotations

VERSION = "0.1.0"
"""Callboard's own version."""

CONSUL_VERSION = "1.22.0"
"""The Consul version whose HTTP interface clients may expect: they gate features on it."""
