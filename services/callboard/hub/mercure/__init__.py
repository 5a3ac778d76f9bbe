"""The Mercure protocol, drafts up to 07 and 08: what requests say and what answers hold. Pure.

Source: draft-dunglas-mercure, revisions 07 and 08, and version 1.0 of the protocol that followed.
A request's own words tell its generation: `topic=` is of drafts up to 07, `match…=` of 08.
"""
