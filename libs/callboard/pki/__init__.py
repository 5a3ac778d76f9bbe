"""Certificates: a private CA, one leaf per program with its roles in the SANs, revocation, trust.

`certificates` makes them, in memory; `roles` says which names stand for which role and reads them
back; `contexts` and `live` turn files into SSL contexts that follow the files. Only the standard
library and `cryptography`; nothing here belongs to one operating system.
"""
