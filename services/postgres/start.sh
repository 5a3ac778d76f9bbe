#!/usr/bin/env bash
# PostgreSQL for the history that hubs share (compose profile `postgres`). On its first start it makes
# the cluster, and a user and a database `hub` with a password that nobody chose: it is in no setting
# and on no command line, only in /access/pgpass, a volume that the hubs mount as PGPASSFILE.
set -euo pipefail
umask 077
programs=(/usr/lib/postgresql/*/bin)
version=$(basename "$(dirname "${programs[-1]}")")
export PATH=${programs[-1]}:$PATH
data=/data/$version access=/access/pgpass

if [ ! -s "$access" ]; then
  password=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
  printf 'postgres:5432:hub:hub:%s\n' "$password" >"$access.new"
  sync "$access.new" && mv "$access.new" "$access" && sync /access
fi
IFS=: read -r _ _ _ _ password <"$access"

if [ ! -s "$data/PG_VERSION" ]; then
  rm -rf "$data.new"
  initdb --pgdata="$data.new" --username="$(id -un)" --auth-local=peer --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --data-checksums >/dev/null
  echo 'host hub hub samenet scram-sha-256' >>"$data.new/pg_hba.conf"
  printf '%s\n' 'CREATE ROLE hub LOGIN' 'CREATE DATABASE hub OWNER hub' |
    postgres --single -D "$data.new" postgres >/dev/null
  mv "$data.new" "$data" && sync /data
fi
# (each time: the volume of the password may have been removed alone)
printf '%s\n' "ALTER ROLE hub PASSWORD '$password'" | postgres --single -D "$data" postgres >/dev/null

exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
