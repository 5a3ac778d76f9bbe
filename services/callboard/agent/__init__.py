"""The catalog agent: servers form the Raft cluster, clients forward; both announce their node."""
