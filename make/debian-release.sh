#!/usr/bin/env bash
# Installs packages of another Debian release, by a pin that lets nothing else of it in:
#
#   make/debian-release.sh trixie testssl.sh
#
# The mirror is the one that apt already uses. On that release itself it just installs. Debian, root.
set -euo pipefail

release=$1
shift
packages=$*
apt() { apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "on Debian $release, as root: apt-get install $packages" >&2
  exit 1
fi
if [ "$release" != "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" ]; then
  mirror=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 'Label: Debian' 2>/dev/null \
    | sed -n 1p)
  test -n "$mirror" || { echo "apt knows no mirror of Debian's: run apt-get update" >&2; exit 1; }
  source=/etc/apt/sources.list.d/callboard-$release.sources
  first=${packages%% *}
  pin=/etc/apt/preferences.d/callboard-$release-${first//./-}  # (apt reads no names with dots)
  cat >"$pin" <<PREFERENCES
Package: *
Pin: release n=$release
Pin-Priority: -10

Package: $packages
Pin: release n=$release
Pin-Priority: 990
PREFERENCES
  cat >"$source" <<SOURCES
Types: deb
URIs: $mirror
Suites: $release
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  # (this source alone: the others are as new as they are)
  if ! apt update -o Dir::Etc::SourceList="$source" -o Dir::Etc::SourceParts=- \
    -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any >/dev/null; then
    rm -f "$source" "$pin"
    echo "$mirror has no $release" >&2
    exit 1
  fi
fi
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt install --no-install-recommends $packages >/dev/null
