#!/usr/bin/env bash
# The peers that benchmarks run beside us, for benchmarks only: Consul 1.8.7 of Debian 11 (by a pin
# that lets nothing else through), hey, dnsperf, wrk and nginx of this Debian. Root, Debian; else names what to install.
set -euo pipefail

missing=()
for tool in consul hey dnsperf wrk nginx; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "benchmarks need: ${missing[*]} (on Debian, as root: make/bench-peers.sh)" >&2
  exit 1
fi
mirror=$(apt-get indextargets --format '$(SITE)' | head -n 1)
cat >/etc/apt/sources.list.d/callboard-bench.list <<EOF
deb $mirror bullseye main
EOF
cat >/etc/apt/preferences.d/callboard-bench <<'EOF'
Package: *
Pin: release n=bullseye
Pin-Priority: -10

Package: consul
Pin: release n=bullseye
Pin-Priority: 990
EOF
apt-get update -qq
apt-get install -y -qq --no-install-recommends consul hey dnsperf wrk nginx-light
