"""From flags, configuration files and the environment to `AgentSettings`.

`flags` has the command line, `keys` the keys a file may hold, `files` reads and merges, `assemble`
builds and validates the settings, `definitions` reads services and checks (again, at reload).
"""

from callboard.agent.configuration.build import Built, build, load_definitions, reread
from callboard.agent.configuration.files import ConfigurationError

__all__ = ["Built", "ConfigurationError", "build", "load_definitions", "reread"]
