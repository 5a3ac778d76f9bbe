"""Many processes, one name: one of them makes the file, and nobody ever reads half of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

RACES = 10_000
PROCESSES = 4

RACER = """
import json, os, sys
from callboard.files import create

folder, me, races = sys.argv[1], sys.argv[2], int(sys.argv[3])
body = (me * 4000).encode()  # not one write(2) of a pipe's length, and recognisably mine
won, late, partial = [], 0, 0
sys.stdin.readline()
for race in range(races):
    path = f"{folder}/{race}"
    begun = False
    try:
        with create(path) as file:
            begun = True
            file.write(body)
        won.append(race)
    except FileExistsError:
        late += begun
    with open(path, "rb") as file:
        seen = file.read()
    if len(seen) != len(body) or len(set(seen)) != 1:
        partial += 1
print(json.dumps([won, late, partial]))
"""


def test_of_10000_racing_creations_each_has_one_winner_and_no_partial_read(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), me, str(RACES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in "abcd"[:PROCESSES]
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [json.loads(racer.communicate(timeout=300)[0]) for racer in racers]
    winners = Counter(race for won, _, _ in results for race in won)
    assert winners == Counter(range(RACES))
    assert sum(partial for _, _, partial in results) == 0
    # it was a race: several won, and some lost only at the end
    assert sum(1 for won, _, _ in results if won) > 1
    assert sum(late for _, late, _ in results) > 0
    assert {one.name for one in tmp_path.iterdir()} == {str(race) for race in range(RACES)}
    for me, (won, _, _) in zip("abcd", results, strict=True):
        assert all((tmp_path / str(race)).read_bytes()[:1] == me.encode() for race in won)
