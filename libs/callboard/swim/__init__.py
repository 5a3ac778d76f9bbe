"""SWIM membership as memberlist and serf speak it: pure, a function of bytes, time and chance.

`serf.Serf` is the whole of one agent's membership; `core.Swim` the failure detector and gossip
below it. Both are driven from outside by datagrams, streams, one timer and the program. No
socket, event loop, clock or randomness of its own: see the agent's `membership` for the driver.
"""
