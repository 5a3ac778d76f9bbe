#!/usr/bin/env bash
# What benchmarks run beside us, for benchmarks only: Consul 1.8.7 of Debian 11 and testssl.sh 3.2 of
# Debian 13 (see debian-release.sh), hey, dnsperf, wrk, nginx with nchan, and a C compiler with
# OpenSSL's headers for loads of our own, of this Debian. Root, Debian; else names what to install.
set -euo pipefail

# (Debian 12 has 3.0, which says its version in colours as well)
has_testssl() { [[ $(testssl -v 2>/dev/null | sed 's/\x1b\[[0-9;]*m//g') =~ version\ (3\.[2-9]|[4-9]) ]]; }

missing=()
for tool in consul hey dnsperf wrk nginx cc; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ -e /usr/share/nginx/modules/ngx_nchan_module.so ] || missing+=(libnginx-mod-nchan)
[ -e /usr/include/openssl/ssl.h ] || missing+=(libssl-dev)
has_testssl || missing+=("testssl 3.2")
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "benchmarks need: ${missing[*]} (on Debian, as root: make/bench-peers.sh)" >&2
  exit 1
fi
make=$(dirname "$0")
apt-get update -qq
apt-get install -y -qq --no-install-recommends hey dnsperf wrk nginx-light \
  libnginx-mod-nchan gcc libc6-dev libssl-dev
command -v consul >/dev/null || "$make/debian-release.sh" bullseye consul
has_testssl || "$make/debian-release.sh" trixie testssl.sh
