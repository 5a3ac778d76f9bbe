"""A DNS front of a catalog, as Consul's: used by the name server and by an agent run alone.

`names`, `records`, `answers`, `wire`, `packed`, `cache` and `responder` are pure; `udp`, `tcp` and
`server` are the sockets, `forwarder` and `foreign` what concerns names outside the domain.
"""
