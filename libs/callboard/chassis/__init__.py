"""What every program of Callboard stands on: command line, logs, life cycle, health, metrics.

A program is a verb of the `callboard` command (`command`), reads its flags (`flags`), logs lines
(`logs`), lives by `lifecycle.run`, and shows its state on an address of its own (`health`,
`metrics`). `listeners` is the one table of all ports; `registration` announces a program in the
catalog. Nothing here knows a particular program.
"""
