"""Runs an agent.

Settings are built and checked first; the agent itself (web framework, consensus) is imported only
when they hold.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence

from callboard.agent.configuration import ConfigurationError, build
from callboard.agent.configuration.flags import AGENT_FLAGS
from callboard.chassis import logs
from callboard.chassis.flags import FlagError, HelpRequested


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard agent`: run until a signal; 1 when it cannot start."""
    try:
        built = build(argv, environ)
    except HelpRequested:
        print(AGENT_FLAGS.help())
        return 0
    except FlagError as problem:
        print(f"error parsing flags: {problem}", file=sys.stderr)
        return 1
    except ConfigurationError as problem:
        print(f"==> {problem}", file=sys.stderr)
        return 1
    settings = built.settings
    flush = logs.configure(settings.log_level, plain=not settings.log_json)
    log = logging.getLogger("callboard.agent")
    for notice in built.notices:
        log.warning("%s", notice)
    from callboard.agent import service  # noqa: PLC0415 - the settings are checked first

    try:
        return service.run(built)
    finally:
        flush()
