"""The two ends of the scale of rights."""

from __future__ import annotations

import inspect

import pytest

from callboard.catalog.authorizer import ALLOW_ALL, DENY_ALL, Authorizer

RIGHTS = [
    name for name in vars(Authorizer) if name.endswith(("_read", "_write", "_list", "_prefix"))
]


@pytest.mark.parametrize("right", RIGHTS)
def test_allow_all_allows_and_deny_all_denies_every_right(right: str) -> None:
    names = ["x"] * (len(inspect.signature(getattr(Authorizer, right)).parameters) - 1)
    assert getattr(ALLOW_ALL, right)(*names) is True
    assert getattr(DENY_ALL, right)(*names) is False
