"""Check runners: TTL, HTTP and TCP. They observe and report; what a status means is not here."""
