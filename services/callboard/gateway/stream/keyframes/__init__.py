"""Where keyframes begin, one module per codec. Payloads come from outside: nothing here raises."""
