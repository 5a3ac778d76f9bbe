"""WHEP, WHIP and what there is to know of streams, over HTTP."""
