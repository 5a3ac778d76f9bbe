"""Compiles fanout.c: `python -m callboard.gateway.fanout.build [OUT]`, when images and working
copies are made. A gateway that runs never compiles.

OUT is by default beside this file, where `choosing` looks. Ends with 0 if the helper was built, 1
if there is no C compiler or it failed: then the gateway sends in Python.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from callboard.gateway.fanout.choosing import LIBRARY

SOURCE = Path(__file__).with_name("fanout.c")
COMPILERS = ("cc", "gcc", "clang")
WITHIN_S = 120.0

log = logging.getLogger(__name__)


def build(out: Path, flags: Sequence[str] = ()) -> bool:
    """Compile the helper to `out`; say in the log what became of it, and return whether it is
    there. `flags` are added to the compiler's."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        log.warning("no C compiler: the gateway will send in Python (install gcc and libc6-dev)")
        return False
    line = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", *flags]
    done = subprocess.run(
        [*line, "-o", str(out), str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        log.warning(
            "the C helper did not compile: the gateway will send in Python\n%s", done.stderr
        )
        return False
    log.info("built %s", out)
    return True


def main(argv: Sequence[str]) -> int:
    """The command. Returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if len(argv) > 1:
        log.error("usage: python -m callboard.gateway.fanout.build [OUT]")
        return 2
    return 0 if build(Path(argv[0]) if argv else LIBRARY) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
