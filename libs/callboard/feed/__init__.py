"""The feed: how the catalog leaves the cluster, as one stream of frames over HTTP.

`wire` is the format, `source` the agent's side, `copy` and `client` the reader's; `image` keeps a
copy on disk, `poll` fills one from any Consul-compatible server by blocking queries instead.
"""
