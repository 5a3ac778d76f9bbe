"""RPC between agents on TCP 8300: handshake, calls, and the one-way channels Raft speaks over."""

from callboard.agent.rpc.client import RpcClient
from callboard.agent.rpc.dialing import Dialer
from callboard.agent.rpc.errors import RpcError, RpcFailed, RpcUnreachable
from callboard.agent.rpc.server import RpcServer
from callboard.agent.rpc.wire import Channel, LocalMember, Peer

__all__ = [
    "Channel",
    "Dialer",
    "LocalMember",
    "Peer",
    "RpcClient",
    "RpcError",
    "RpcFailed",
    "RpcServer",
    "RpcUnreachable",
]
