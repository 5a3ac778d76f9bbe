#!/usr/bin/env bash
# What benchmarks run beside us, for benchmarks only: Consul 1.8.7 of Debian 11 and testssl.sh 3.2 of
# Debian 13 (by pins that let nothing else through), hey, dnsperf, wrk and nginx of this Debian. Root,
# Debian; else names what to install.
set -euo pipefail

missing=()
for tool in consul hey dnsperf wrk nginx testssl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "benchmarks need: ${missing[*]} (on Debian, as root: make/bench-peers.sh)" >&2
  exit 1
fi
mirror=$(apt-get indextargets --format '$(SITE)' | head -n 1)
own=$(. /etc/os-release && echo "$VERSION_CODENAME")
sources=/etc/apt/sources.list.d/callboard-bench.list
pins=/etc/apt/preferences.d/callboard-bench
: >"$sources"
: >"$pins"
for one in bullseye:consul trixie:testssl.sh; do
  release=${one%%:*}
  [ "$release" = "$own" ] && continue
  echo "deb $mirror $release main" >>"$sources"
  printf 'Package: *\nPin: release n=%s\nPin-Priority: -10\n\n' "$release" >>"$pins"
  printf 'Package: %s\nPin: release n=%s\nPin-Priority: 990\n\n' "${one#*:}" "$release" >>"$pins"
done
apt-get update -qq
apt-get install -y -qq --no-install-recommends consul hey dnsperf wrk nginx-light testssl.sh
