#!/usr/bin/env bash
# Makes the base image (Debian 13 with its Python 3.13) from Debian's packages: the stand-in for
# python:3.13-slim-trixie where no registry answers. Needs root, an engine and a Debian mirror.
#
#   make/base-image.sh [TAG]
#
# The mirrors are the ones apt uses on this machine; the host's CA bundle is copied in, so that a
# build behind a private CA trusts what the host trusts. Bytecode is stripped here and compiled by
# the Dockerfile, for either base alike.
set -euo pipefail

tag=${1:-callboard/base:trixie}
suite=trixie
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
test -r "$bundle" || bundle=/etc/ssl/certs/ca-certificates.crt

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  cat >&2 <<'ADVICE'
The base image is made from Debian's packages, as root on Debian. Elsewhere, either of:
  docker pull python:3.13-slim-trixie            and run make again
  make up BASE_IMAGE=an/image:with-python-3.13   an image of your own registry
ADVICE
  exit 1
fi

site() { apt-get indextargets --format '$(SITE)' 'Origin: Debian' "Label: $1" | head -n 1; }
if [ -z "$(site Debian)" ]; then apt-get -q update; fi
if ! command -v mmdebstrap >/dev/null; then
  echo "== installing mmdebstrap"
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends mmdebstrap >/dev/null
fi
mirror=$(site Debian) security=$(site Debian-Security)
test -n "$mirror" || { echo "apt knows no mirror of Debian's" >&2; exit 1; }
sources=("deb $mirror $suite main" "deb $mirror $suite-updates main")
if [ -n "$security" ]; then sources+=("deb $security $suite-security main"); fi

archive=$(mktemp --suffix=.tar) log=$(mktemp)
trap 'rm -f "$archive" "$log"' EXIT
echo "== making $tag from Debian's packages (about a minute)"
export bundle
mmdebstrap --mode=root --variant=minbase --format=tar \
  --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr \
  --include=ca-certificates,python3,python3-venv \
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  --aptopt='Dir::Cache::pkgcache ""' --aptopt='Dir::Cache::srcpkgcache ""' \
  --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/lintian/*' \
  --dpkgopt='path-exclude=/usr/share/bash-completion/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-include=/usr/share/locale/locale.alias' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --customize-hook='cat "$bundle" > "$1/etc/ssl/certs/ca-certificates.crt"' \
  --customize-hook='ln -sf /usr/bin/python3 "$1/usr/local/bin/python3"' \
  --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
  --customize-hook='find "$1/usr" -name __pycache__ -type d -prune -exec rm -rf {} +' \
  --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/*' \
  "$suite" "$archive" "${sources[@]}" >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }
# an empty archive would be imported without a word, as an image of 0 bytes
test -s "$archive"
docker import \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
  --change 'CMD ["python3"]' "$archive" "$tag" >/dev/null
echo "   $tag: $(docker image inspect --format '{{.Size}}' "$tag" | awk '{print int($1/1e6)}') MB"
