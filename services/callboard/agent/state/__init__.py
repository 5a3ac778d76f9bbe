"""The replicated state of a server agent: what committed commands make of an empty catalog.

Pure: a function of the applied log. No socket, clock, randomness or event loop.
"""
