"""Username fragments and passwords (RFC 8445, 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

_ICE_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
"""ice-char of RFC 8839, 5.4: 6 bits each."""
UFRAG_CHARACTERS = 8
"""48 bits, where the RFC asks for 24: they tell one peer from all others."""
PASSWORD_CHARACTERS = 24
"""144 bits, where the RFC asks for 128."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a description says of us: `a=ice-ufrag`, `a=ice-pwd`."""

    ufrag: str
    password: str

    @property
    def key(self) -> bytes:
        """Of MESSAGE-INTEGRITY: ASCII, so SASLprep changes nothing."""
        return self.password.encode("ascii")


def new_credentials(rng: Random) -> Credentials:
    """Fresh ones, as good as `rng` is (`random.SystemRandom()` where it matters)."""

    def some(count: int) -> str:
        return "".join(rng.choice(_ICE_CHARACTERS) for _ in range(count))

    return Credentials(some(UFRAG_CHARACTERS), some(PASSWORD_CHARACTERS))
