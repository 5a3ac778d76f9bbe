"""The media port: one UDP socket and one TCP listener, and which peer a packet is for."""
