"""One packet to many viewers: header rewrite, SRTP and sending. In C, and the same in Python."""
