"""Routes: requests below /v1, /hub and /media go to a healthy instance found in the catalog.

`policy` decides who may ask what, `heads` rewrites heads, `framing` finds where bodies end (these
are pure); `upstreams` knows instances and keeps connections, `relay` carries bytes, `router` joins
them.
"""
