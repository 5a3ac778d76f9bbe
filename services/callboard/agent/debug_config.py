"""What an agent says of its settings at /v1/agent/self: Consul's DebugConfig, what of it we have.

Names and forms are Consul's; secrets are "hidden". Consul says that the names may change, but
tools read some: addresses, ports, DNS. Nothing is said of settings that are not there.
"""

from __future__ import annotations

from collections.abc import Mapping

from callboard.agent.settings import AgentSettings
from callboard.catalog.durations import SECOND, format_duration


def debug_config(settings: AgentSettings, node_id: str) -> Mapping[str, object]:
    """The document, made once at the start."""
    ports, address = settings.ports, settings.advertise_address
    return {
        "AdvertiseAddrLAN": address,
        "AdvertiseAddrWAN": address,
        "BindAddr": settings.bind_address,
        "Bootstrap": settings.bootstrap_expect == 1,
        "BootstrapExpect": settings.bootstrap_expect if settings.bootstrap_expect > 1 else 0,
        "CheckOutputMaxSize": settings.check_output_bytes_max,
        "CheckUpdateInterval": _duration(settings.check_update_interval_s),
        "ClientAddrs": list(settings.http_addresses),
        "DNSAddrs": [
            f"{network}://{_joined(each, ports.dns)}"
            for each in settings.dns_addresses
            for network in ("tcp", "udp")
            if ports.dns > 0
        ],
        "DNSAltDomain": f"{settings.alt_domain}." if settings.alt_domain else "",
        "DNSDomain": f"{settings.domain}.",
        "DNSPort": ports.dns,
        "DataDir": str(settings.data_dir or ""),
        "Datacenter": settings.datacenter,
        "DefaultQueryTime": _duration(settings.http.default_query_time_s),
        "DevMode": settings.dev,
        "EncryptKey": "hidden",
        "HTTPAddrs": [
            f"tcp://{_joined(each, ports.http)}"
            for each in settings.http_addresses
            if ports.http > 0
        ],
        "HTTPMaxConnsPerClient": settings.http.max_connections_per_client,
        "HTTPPort": ports.http,
        "KVMaxValueSize": settings.http.kv_value_bytes_max,
        "LeaveDrainTime": _duration(settings.leave_drain_time_s),
        "LeaveOnTerm": settings.leave_on_terminate,
        "MaxQueryTime": _duration(settings.http.max_query_time_s),
        "NodeID": node_id,
        "NodeMeta": dict(settings.node_meta),
        "NodeName": settings.node_name,
        "PrimaryDatacenter": settings.datacenter,
        "RPCHoldTimeout": _duration(settings.rpc_hold_timeout_s),
        "RetryJoinLAN": list(settings.retry_join),
        "SerfPortLAN": ports.serf_lan,
        "ServerMode": settings.server,
        "ServerPort": ports.server,
        "SkipLeaveOnInt": settings.skip_leave_on_interrupt,
        "TaggedAddresses": {"lan": address, "wan": address},
    }


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _duration(seconds: float) -> str:
    return format_duration(round(seconds * SECOND))
