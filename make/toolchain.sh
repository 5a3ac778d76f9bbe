#!/usr/bin/env bash
# Makes `docker compose` (v2) and `docker buildx` answer: a no-op where they do, apt's packages on
# Debian as root, else the exact command to run, and a failure.
#
# Debian 12 has neither. Debian 13's run with its engine, so only these two are pinned to 13: with
# Debian 13's docker-cli in the pin apt would remove the running engine.
set -euo pipefail

have() { docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1; }
apt() { apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }

if have; then exit 0; fi

. /etc/os-release
if [ "$(id -u)" -ne 0 ] || [ "${ID:-}" != debian ]; then
  cat >&2 <<'ADVICE'
docker compose v2 and docker buildx are needed, and one of them does not answer. Install them:
  Docker's own packages     docker-compose-plugin docker-buildx-plugin
  Debian, Ubuntu            as root: apt-get install docker-compose docker-buildx
  (on Debian 12, as root, `make toolchain` does it)
or do without an engine: make run
ADVICE
  exit 1
fi

echo "== installing docker compose and buildx from Debian's packages"
if [ -z "$(apt-get indextargets --format '$(SITE)' 'Origin: Debian')" ]; then apt update; fi
if [ "${VERSION_CODENAME:-}" = bookworm ]; then
  "$(dirname "$0")/debian-release.sh" trixie docker-compose docker-buildx
else
  apt update >/dev/null || true
  DEBIAN_FRONTEND=noninteractive apt install --no-install-recommends \
    docker-compose docker-buildx >/dev/null
fi
have || { echo "installed, but docker compose or docker buildx still does not answer" >&2; exit 1; }
echo "   $(docker compose version), buildx $(docker buildx version | cut -d' ' -f2)"
