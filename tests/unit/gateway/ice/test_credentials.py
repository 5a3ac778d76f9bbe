"""Username fragments and passwords."""

from __future__ import annotations

import random
import re

from callboard.gateway.ice.credentials import new_credentials


def test_credentials_are_long_enough_and_of_ice_characters() -> None:
    for seed in range(100):
        credentials = new_credentials(random.Random(seed))
        assert re.fullmatch(r"[A-Za-z0-9+/]{4,256}", credentials.ufrag)
        assert re.fullmatch(r"[A-Za-z0-9+/]{22,256}", credentials.password)
        assert 6 * len(credentials.ufrag) >= 24
        assert 6 * len(credentials.password) >= 128


def test_credentials_differ() -> None:
    rng = random.Random(1)
    made = [new_credentials(rng) for _ in range(1000)]
    assert len({one.ufrag for one in made}) == len({one.password for one in made}) == 1000
