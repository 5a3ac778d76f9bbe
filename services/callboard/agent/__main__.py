"""Runs an agent: `python -m callboard.agent` is `callboard agent`."""

from __future__ import annotations

import os
import sys

from callboard.agent.commands.agent import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
