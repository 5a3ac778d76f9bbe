"""`callboard tls`: a CA of one's own, by hand; Consul's verbs and file names.

Each module holds verbs; what they do is `callboard.pki`'s. Keys are made once and never written
over, certificates are verified before they are written.
"""
