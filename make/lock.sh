#!/usr/bin/env bash
# Writes the lock files anew, each for every Python from 3.11 on:
#   constraints.txt          all extras, no hashes: pip install -c constraints.txt .
#   constraints-image.txt    what the images install, with hashes, a subset of constraints.txt
#   constraints-gateway.txt  the same of the gateway's image, which has more
#   constraints-build.txt    the build backend for the images, with hashes
# Pass --upgrade to take newer versions; without, what is locked stays.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.build/uv
if [ ! -x $venv/bin/uv ]; then
  echo "== installing uv into $venv"
  python3 -m venv $venv
  $venv/bin/pip install -q uv
fi
compile() {
  UV_SYSTEM_CERTS=1 UV_CUSTOM_COMPILE_COMMAND="make lock" $venv/bin/uv pip compile -q --universal \
    --python-version 3.11 --no-emit-index-url --no-header --no-annotate "$@"
}

echo "== constraints.txt"
compile --all-extras "$@" -o constraints.txt pyproject.toml
echo "== constraints-image.txt"
compile --extra hub --extra nameserver --generate-hashes "$@" -c constraints.txt \
  -o constraints-image.txt pyproject.toml
echo "== constraints-gateway.txt"
compile --extra hub --extra nameserver --extra gateway --generate-hashes "$@" -c constraints.txt \
  -o constraints-gateway.txt pyproject.toml
echo "== constraints-build.txt"
python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
  | compile --generate-hashes "$@" -o constraints-build.txt -
