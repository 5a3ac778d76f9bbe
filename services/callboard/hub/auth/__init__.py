"""Who may: keys, tokens, where a request carries its token, how much a token may publish."""
