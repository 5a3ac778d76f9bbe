#!/usr/bin/env bash
# Makes .venv with what pyproject.toml names, at the versions of constraints.txt, and the project
# itself, editable. `.venv/.made` is newer than both files when nothing is to do.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}

$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or newer is needed; $python is $($python -V 2>&1). make PYTHON=python3.13 …" >&2
  exit 1
}
if [ .venv/.made -nt pyproject.toml ] && [ .venv/.made -nt constraints.txt ]; then exit 0; fi
echo "== installing the packages into .venv"
if [ ! -x .venv/bin/python ] && ! $python -m venv .venv; then
  echo "on Debian: apt-get install python3-venv" >&2
  exit 1
fi
.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test,hub,nameserver,gateway]'
# Also where Python is told to write no bytecode: else every start would compile all of it again.
.venv/bin/python -m compileall -q libs services
# (where there is a C compiler; the log of a gateway without it says so, too)
.venv/bin/python -m callboard.gateway.fanout.build >/dev/null 2>&1 ||
  echo "   no C compiler (on Debian: apt-get install gcc libc6-dev): live video is sent by Python, at twice the cost"
touch .venv/.made
