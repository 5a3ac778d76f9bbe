#!/usr/bin/env bash
# `make test`: format, lint, types, then one run of pytest over everything, whose closing line is
# the last that is printed. BUDGET=ci makes base image and images anew, drives the integration
# suite over containers and over processes, widens the simulations, and fails where a test is
# skipped that this machine could run.
set -euo pipefail
cd "$(dirname "$0")/.."
export BUDGET=${BUDGET:-default}
started=$SECONDS
step() { printf '== %s (%d s)\n' "$*" $((SECONDS - started)); }

# Tools that tests call: on Debian as root they are installed, elsewhere their tests are skipped.
install_tools() {
  local wanted missing=() package
  wanted=$(grep -vE '^\s*(#|$)' tests/debian-packages.txt)
  for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' \
      || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    step "installing ${missing[*]}"
    apt-get -q -y -o DPkg::Lock::Timeout=300 update >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install \
      --no-install-recommends "${missing[@]}" >/dev/null
  fi
  if ! dpkg --compare-versions "$(dpkg-query -W -f '${Version}' testssl.sh 2>/dev/null)" ge 3.2; then
    step "installing testssl.sh 3.2"
    make/debian-release.sh trixie testssl.sh || true  # (its test names what is missing)
  fi
}

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then install_tools; fi
make/venv.sh "${PYTHON:-python3}"
bin=.venv/bin

step "ruff format, ruff, mypy"
$bin/ruff format --check -q .
$bin/ruff check -q .
$bin/mypy --strict libs services tests make

if docker info >/dev/null 2>&1 && make/toolchain.sh; then
  if [ "$BUDGET" = ci ]; then fresh=--fresh no_cache=--no-cache; else fresh='' no_cache=''; fi
  step "images"
  "${PYTHON:-python3}" make/environment.py $fresh
  docker compose --progress quiet build $no_cache
  docker image prune --force --filter label=com.docker.compose.project=callboard >/dev/null
  if [ "$BUDGET" = ci ]; then also=' and on local processes'; else also=''; fi
  step "the integration suite runs in containers$also"
else
  step "no container engine answers: the integration suite runs on local processes"
fi

step "pytest"
exec $bin/python -m pytest --durations 10 tests
