"""The keys of gossip on the disk, as Consul keeps them: a JSON array of base64, the primary first.

`serf/local.keyring` in the data directory, for its owner alone. Once it is there it is what counts,
whatever -encrypt says: else a rotated key would come back with the next restart.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from callboard.agent.membership.settings import decode_key
from callboard.files import replace

BYTES_MAX = 64 * 1024


class KeyringError(Exception):
    """The file is there and cannot be used; the text names it."""


def read_keyring(path: Path) -> tuple[bytes, ...]:
    """The keys, the primary first; () where there is no file. Raises KeyringError."""
    try:
        with path.open("rb") as file:
            body = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        return ()
    except OSError as problem:
        raise KeyringError(f"{path}: {(problem.strerror or str(problem)).lower()}") from problem
    try:
        if len(body) > BYTES_MAX:
            raise ValueError("it is too big")
        texts = json.loads(body)
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise ValueError("it is no list of keys")
        if not texts:
            raise ValueError("there is no key in it")
        return tuple(dict.fromkeys(decode_key(one) for one in texts))
    except (ValueError, RecursionError) as problem:
        raise KeyringError(f"{path}: not usable as a keyring: {problem}") from problem


def write_keyring(path: Path, keys: Sequence[bytes]) -> None:
    """Keep the keys, the primary first; on the disk on return. Raises OSError."""
    texts = [base64.b64encode(key).decode() for key in keys]
    with replace(path, "w", permissions=0o600) as file:
        json.dump(texts, file, indent=2)
        file.write("\n")
