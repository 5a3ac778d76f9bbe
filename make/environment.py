"""Write .env, which docker-compose.yml reads: BASE_IMAGE, BUILD_CA and SUBNET of this machine, and
the profiles that HUB_STORE and TURN_HOST need.

A line that is in .env already stays as it is, unless it cannot work any more (an image that is
gone, a network that another project has taken). A variable of the same name in the environment
wins over both. `--fresh` makes the base image anew where no registry answers.

Only the standard library: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
REGISTRY_IMAGE = "python:3.13-slim-trixie"
LOCAL_IMAGE = "callboard/base:trixie"
PULL_TIMEOUT_S = 90.0
REGISTRY_ANSWERS_WITHIN_S = 8.0
BUNDLE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
BUNDLE_PLACES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
HEADER = "# Written by make from .env.example; a line that you change stays as you set it.\n"
EVERYWHERE = "0.0.0.0"
POSTGRES = "postgres"
"""The compose profile and its database server."""
TURN = "turn"
"""The compose profile of the TURN server."""

Network = ipaddress.IPv4Network


def docker(*argv: str, timeout_s: float = 30.0) -> str | None:
    """Return what `docker argv` prints, or None if it fails or takes too long."""
    try:
        done = subprocess.run(
            ["docker", *argv], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def has_image(image: str) -> bool:
    """Say whether the engine holds `image`."""
    return docker("image", "inspect", "--format", "{{.Id}}", image) is not None


def registry_answers() -> bool:
    """Say whether the engine's registry knows REGISTRY_IMAGE, within a few seconds."""
    return (
        docker("manifest", "inspect", REGISTRY_IMAGE, timeout_s=REGISTRY_ANSWERS_WITHIN_S)
        is not None
    )


def base_image(kept: str | None, *, fresh: bool) -> str:
    """Choose the base image, and make it from Debian's packages if nothing else is there."""
    if chosen := os.environ.get("BASE_IMAGE"):
        return chosen
    if kept and kept not in (REGISTRY_IMAGE, LOCAL_IMAGE):
        return kept
    if has_image(REGISTRY_IMAGE):
        return REGISTRY_IMAGE
    if has_image(LOCAL_IMAGE) and not fresh:
        return LOCAL_IMAGE
    if registry_answers():
        print(f"== pulling {REGISTRY_IMAGE}", flush=True)
        if docker("pull", "-q", REGISTRY_IMAGE, timeout_s=PULL_TIMEOUT_S) is not None:
            return REGISTRY_IMAGE
    print("== no registry answers", flush=True)
    made = subprocess.run([ROOT / "make" / "base-image.sh", LOCAL_IMAGE], check=False)
    if made.returncode:
        raise SystemExit(made.returncode)
    return LOCAL_IMAGE


def build_ca() -> str:
    """Copy this machine's CA bundle into the project: a builder may read no file outside it."""
    named = [os.environ[name] for name in BUNDLE_VARIABLES if os.environ.get(name)]
    for place in [os.environ.get("BUILD_CA", ""), *named, *BUNDLE_PLACES]:
        if place and Path(place).is_file() and Path(place).stat().st_size:
            copy = ROOT / ".build" / "ca.pem"
            copy.parent.mkdir(exist_ok=True)
            if Path(place).resolve() != copy:
                shutil.copyfile(place, copy)
            return "./.build/ca.pem"
    return "./certs/build-ca.pem"


def taken_networks(project: str) -> set[Network]:
    """Return the networks in use here: the engine's, but the project's own, and the host's."""
    taken: set[Network] = set()
    names = (docker("network", "ls", "-q") or "").split()
    for network in json.loads(docker("network", "inspect", *names) or "[]") if names else []:
        if (network.get("Labels") or {}).get("com.docker.compose.project") == project:
            continue
        for config in (network.get("IPAM") or {}).get("Config") or []:
            taken |= _networks([config.get("Subnet", "")])
    # the host's routes hold the project's own bridge as well: leave out what the engine has made
    routes = (
        subprocess.run(["ip", "-json", "route"], capture_output=True, text=True, check=False)
        if shutil.which("ip")
        else None
    )
    if routes and routes.returncode == 0:
        taken |= _networks(
            route.get("dst", "")
            for route in json.loads(routes.stdout or "[]")
            if not str(route.get("dev", "")).startswith(("br-", "docker"))
        )
    return taken


def _networks(texts: Iterable[str]) -> set[Network]:
    found: set[Network] = set()
    for text in texts:
        try:
            found.add(Network(text, strict=False))
        except ValueError:  # "default", or an IPv6 network
            continue
    return found


def free_subnet(kept: str | None, taken: set[Network]) -> str:
    """Return the first three numbers of a /24 that clashes with no network in `taken`."""
    candidates = [f"10.85.{third}" for third in range(53, 250)]
    for prefix in [kept or candidates[0], *candidates]:
        if not any(Network(f"{prefix}.0/24").overlaps(network) for network in taken):
            return prefix
    raise SystemExit("no free network below 10.85: set SUBNET in .env (see .env.example)")


def public(kept: Mapping[str, str]) -> dict[str, str]:
    """PUBLIC_HOST, and where 1443 is published: with one on all addresses, unless told otherwise.

    Raises SystemExit for what is neither a name nor an address.
    """
    host = os.environ.get("PUBLIC_HOST", kept.get("PUBLIC_HOST", ""))
    bind = os.environ.get("PUBLIC_BIND", kept.get("PUBLIC_BIND", ""))
    if not host:
        back = {"PUBLIC_HOST": "", "PUBLIC_BIND": "" if bind == EVERYWHERE else bind}
        return {name: value for name, value in back.items() if name in kept}
    if not _is_host(host):
        raise SystemExit(f"PUBLIC_HOST is a name or an address, without scheme and port: {host!r}")
    return {"PUBLIC_HOST": host, "PUBLIC_BIND": bind or EVERYWHERE}


def history(kept: Mapping[str, str]) -> dict[str, str]:
    """HUB_STORE, and COMPOSE_PROFILES with the profile `postgres` just if that is where it is."""
    store = os.environ.get("HUB_STORE", kept.get("HUB_STORE", ""))
    named = os.environ.get("COMPOSE_PROFILES", kept.get("COMPOSE_PROFILES", ""))
    profiles = [name for name in named.split(",") if name and name != POSTGRES]
    if urlsplit(store).hostname == POSTGRES:
        profiles.append(POSTGRES)
    found = {"HUB_STORE": store, "COMPOSE_PROFILES": ",".join(profiles)}
    return {name: value for name, value in found.items() if value or name in kept}


def relay(kept: Mapping[str, str]) -> dict[str, str]:
    """TURN_HOST, and COMPOSE_PROFILES (as `kept` has it) with the profile `turn` just if there is
    one. Raises SystemExit for what is neither a name nor an IPv4 address.
    """
    host = os.environ.get("TURN_HOST", kept.get("TURN_HOST", ""))
    if host and (":" in host or not _is_host(host)):
        raise SystemExit(f"TURN_HOST is a name or an IPv4 address, without a port: {host!r}")
    if not host and "TURN_HOST" not in kept:
        return {}  # (a profile that was named by itself stays)
    named = kept.get("COMPOSE_PROFILES", "").split(",")
    profiles = [name for name in named if name and name != TURN] + ([TURN] if host else [])
    return {"TURN_HOST": host, "COMPOSE_PROFILES": ",".join(profiles)}


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", text) is not None
    return True


def read(path: Path) -> dict[str, str]:
    """Return the assignments of an .env file; {} if there is none."""
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def write(path: Path, values: Mapping[str, str]) -> None:
    """Write `values` as an .env file, if that changes it."""
    text = HEADER + "".join(f"{name}={value}\n" for name, value in values.items())
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main(argv: Sequence[str]) -> int:
    """Write .env in the project's root, or at --output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="make the base image anew")
    parser.add_argument("--output", type=Path, default=ROOT / ".env")
    arguments = parser.parse_args(argv)
    values = read(arguments.output)
    project = os.environ.get("COMPOSE_PROJECT_NAME") or values.get(
        "COMPOSE_PROJECT_NAME", "callboard"
    )
    values["BASE_IMAGE"] = base_image(values.get("BASE_IMAGE"), fresh=arguments.fresh)
    values["BUILD_CA"] = build_ca()
    values["SUBNET"] = os.environ.get("SUBNET") or free_subnet(
        values.get("SUBNET"), taken_networks(project)
    )
    values.update(public(values))
    values.update(history(values))
    values.update(relay(values))
    write(arguments.output, values)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
