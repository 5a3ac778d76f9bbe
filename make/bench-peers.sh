#!/usr/bin/env bash
# What benchmarks run beside us, for benchmarks only: Consul 1.8.7 of Debian 11 and testssl.sh 3.2 of
# Debian 13 (see debian-release.sh), hey, dnsperf, wrk and nginx of this Debian. Root,
# Debian; else names what to install.
set -euo pipefail

missing=()
for tool in consul hey dnsperf wrk nginx testssl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "benchmarks need: ${missing[*]} (on Debian, as root: make/bench-peers.sh)" >&2
  exit 1
fi
make=$(dirname "$0")
apt-get update -qq
apt-get install -y -qq --no-install-recommends hey dnsperf wrk nginx-light
command -v consul >/dev/null || "$make/debian-release.sh" bullseye consul
command -v testssl >/dev/null || "$make/debian-release.sh" trixie testssl.sh
