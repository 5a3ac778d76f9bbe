"""Routes: requests below /v1, /hub and /media go to a healthy instance found in the catalog.

`policy` decides who may ask what, `heads` rewrites heads, `framing` finds where bodies end (these
are pure); `instances` knows whom to ask, `pool` and `upstream` have the connections, `relay` makes
an exchange and `carrying` moves its bytes, `router` and `opening` join them.
"""
