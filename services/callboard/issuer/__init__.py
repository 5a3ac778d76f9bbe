"""The issuer: keeps the CA, signs each program's leaf, renews it, refreshes the revocation list."""
