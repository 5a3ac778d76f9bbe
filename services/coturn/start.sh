#!/usr/bin/env bash
# TURN for viewers that reach the gateway's port by no other way (compose profile `turn`). On its first
# start it makes the secret that the gateway signs credentials with: it is in no setting and on no command
# line, only in ACCESS/secret, a volume that the gateway mounts. Key and certificate are as every program
# has them: the key stays in IDENTITY, the issuer's answer comes through EXCHANGE. Relayed is to
# GATEWAY_ADDRESS alone, so no relayed port has to be published.
set -euo pipefail
umask 077
access=${ACCESS:-/access}/secret identity=${IDENTITY:-/data/identity} exchange=${EXCHANGE:-/exchange}
scratch=${TMPDIR:-/tmp}
settings=$scratch/turnserver.conf
key=$identity/key.pem certificate=$identity/certificate.pem

say() { # LEVEL MESSAGE
  printf '{"time": "%s", "level": "%s", "message": "%s"}\n' "$(date -u +%FT%TZ)" "$1" "$2"
}

put() { # FILE: standard input becomes its content, whole or not at all
  cat >"$1.new" && sync "$1.new" && mv "$1.new" "$1" && sync "$(dirname "$1")"
}

in_date() { # whether what we hold has not ended
  [ -s "$certificate" ] && openssl x509 -in "$certificate" -noout -checkend 0 >/dev/null
}

take() { # takes what the issuer has put out, once it is for our key; whether it was new
  local offered=$exchange/certificate.pem own theirs
  [ -s "$offered" ] && ! cmp -s "$offered" "$certificate" || return 1
  theirs=$(openssl x509 -in "$offered" -noout -pubkey 2>/dev/null) || return 1
  own=$(openssl pkey -in "$key" -pubout)
  [ "$own" = "$theirs" ] && put "$certificate" <"$offered"
}

if [ ! -s "$access" ]; then
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' | put "$access"
fi
mkdir -p "$identity"
if [ ! -s "$key" ]; then
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | put "$key"
fi
openssl req -new -key "$key" -subj /CN=coturn | put "$exchange/request.pem"

deadline=$((SECONDS + 60))
while ! take && ! in_date; do
  if ((SECONDS >= deadline)); then
    say error 'no certificate came from the issuer within 60 s'
    exit 1
  fi
  sleep 0.2
done
[ -n "${TURN_HOST:-}" ] || say warning 'TURN_HOST is not set: the gateway tells nobody of this server'

put "$settings" <<SETTINGS
listening-port=3478
tls-listening-port=5349
min-port=49160
max-port=49359
realm=callboard
fingerprint
use-auth-secret
static-auth-secret=$(cat "$access")
stale-nonce=600
total-quota=200
allowed-peer-ip=$GATEWAY_ADDRESS
denied-peer-ip=0.0.0.0-255.255.255.255
denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
no-multicast-peers
no-tcp-relay
no-dtls
no-tlsv1
no-tlsv1_1
no-cli
no-rfc5780
no-stun-backward-compatibility
no-software-attribute
cert=$certificate
pkey=$key
log-file=stdout
userdb=$scratch/turndb
pidfile=$scratch/turnserver.pid
${BIND:+listening-ip=$BIND}
SETTINGS

turnserver -c "$settings" &
server=$!
trap 'kill -TERM "$server"' TERM INT
while kill -0 "$server" 2>/dev/null; do
  # (a signal ends the wait for what is in the background, not for what is in front of it)
  sleep 10 &
  wait -n "$server" $! || break
  if take; then
    say info 'a new certificate was taken'
    kill -USR2 "$server"
  fi
done
wait "$server"
