"""Bodies of catalog/register and catalog/deregister, as commands (consul.md §5.8)."""

from __future__ import annotations

from callboard.catalog.commands import Deregister, Register


class RegistrationError(ValueError):
    """A registration Consul refuses with a 500 text (`Must provide node`)."""


class WrongDatacenter(RegistrationError):
    """The body names another datacenter (`No path to datacenter`)."""


def register_from_request(body: bytes, datacenter: str, request_id: bytes = b"") -> Register:
    """Of the body of PUT catalog/register. Raises DecodeError (400), RegistrationError (500)."""
    raise NotImplementedError


def deregister_from_request(body: bytes, datacenter: str, request_id: bytes = b"") -> Deregister:
    """Of the body of PUT catalog/deregister. Raises DecodeError (400), RegistrationError (500)."""
    raise NotImplementedError
