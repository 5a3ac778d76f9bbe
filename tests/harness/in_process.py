"""A program in the test's own process, from start to stop, and what other programs show it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol, TypeVar

from tests.harness.certified import CA, material

from callboard.chassis.identity_settings import IdentitySettings
from callboard.chassis.lifecycle import Lifecycle
from callboard.pki.contexts import client_context
from callboard.pki.roles import names_for


class Program(Protocol):
    """What a program's service module has."""

    async def start(self, life: Lifecycle) -> None:
        """Start everything; `life` stops it."""


P = TypeVar("P", bound=Program)


@contextlib.asynccontextmanager
async def running(program: P) -> AsyncIterator[P]:
    """Start a program; stop it afterwards, also when it did not start."""
    life = Lifecycle()
    try:
        await program.start(life)
        yield program
    finally:
        await life.stop_all()


def identity_of(authority: CA, folder: Path, role: str, node: str) -> IdentitySettings:
    """An identity of files, with all that belongs to it."""
    own = material(folder, authority.leaf(names_for(role, node)), authority)
    return IdentitySettings(
        certificate=own.certificate, key=own.key, authorities=own.authorities, revoked=own.revoked
    )


def shown_by(authority: CA, folder: Path, role: str) -> ssl.SSLContext:
    """How another program connects, whatever the host is called."""
    context = client_context(material(folder, authority.leaf(names_for(role, "")), authority))
    context.check_hostname = False
    return context
