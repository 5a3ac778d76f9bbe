#!/usr/bin/env bash
# What benchmarks run beside us, for benchmarks only: Consul 1.8.7 of Debian 11 and testssl.sh 3.2 of
# Debian 13 (see debian-release.sh), hey, dnsperf, wrk, nginx with nchan, Janus, and for loads of our
# own a C compiler with OpenSSL's headers and iproute2, of this Debian. Root, Debian; else names what
# to install.
set -euo pipefail

# (Debian 12 has 3.0, which says its version in colours as well)
has_testssl() { [[ $(testssl -v 2>/dev/null | sed 's/\x1b\[[0-9;]*m//g') =~ version\ (3\.[2-9]|[4-9]) ]]; }

missing=()
for tool in consul hey dnsperf wrk nginx janus ip cc; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ -e /usr/share/nginx/modules/ngx_nchan_module.so ] || missing+=(libnginx-mod-nchan)
[ -e /usr/include/openssl/ssl.h ] || missing+=(libssl-dev)
has_testssl || missing+=("testssl 3.2")
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "benchmarks need: ${missing[*]} (on Debian, as root: make/bench-peers.sh)" >&2
  exit 1
fi
make=$(dirname "$0")
services=()
for service in nginx janus; do command -v "$service" >/dev/null || services+=("$service"); done
apt-get update -qq
apt-get install -y -qq --no-install-recommends hey dnsperf wrk nginx-light \
  libnginx-mod-nchan janus iproute2 gcc libc6-dev libssl-dev
# Debian starts what it installs: benchmarks start their own, and Janus has ports of the gateway's.
for service in "${services[@]}"; do
  systemctl disable --now "$service" >/dev/null 2>&1 || service "$service" stop >/dev/null 2>&1 \
    || echo "the service $service could not be stopped" >&2
done
command -v consul >/dev/null || "$make/debian-release.sh" bullseye consul
has_testssl || "$make/debian-release.sh" trixie testssl.sh
