"""The repository tells one story: documents, versions, locks, compose file, listener table."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml
from tests.harness.sources import ROOT, texts, tracked

from callboard.chassis.listeners import HEALTH_PORT, LISTENERS, PROGRAMS, Security

PORT = re.compile(
    r"^(?P<host>[\d.]+|\$\{PUBLIC_BIND:-127\.0\.0\.1\}):(?P<outer>[^:]+|\$\{[^}]+\}):(?P<inner>\d+)(?:/(?P<kind>\w+))?$"
)
ELSEWHERE = re.compile(
    r"/work/|/opt/wheels|deb\.debian\.org|(?:files\.)?pythonhosted\.org|pypi\.org/simple"
    r"|registry-1\.|index\.docker\.|docker\.io/"
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def _read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def _project() -> dict[str, Any]:
    return tomllib.loads(_read("pyproject.toml"))


def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(_read("docker-compose.yml"))
    return loaded


def _pinned(path: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", _read(path), re.M)
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_no_file_names_a_machine_or_a_registry_host() -> None:
    wrong = [
        f"{path}: {found.group()}"
        for path, text in texts()
        if path != "tests/tidy/test_repository.py" and (found := ELSEWHERE.search(text))
    ]
    assert not wrong


def test_the_changelog_begins_with_the_version() -> None:
    headings = re.findall(r"^## \[?(\d+\.\d+\.\d+[^\s\]]*)", _read("CHANGELOG.md"), re.M)
    assert headings[0] == _project()["project"]["version"]


def test_links_in_documents_resolve() -> None:
    dead = []
    for path, text in texts():
        if not path.endswith(".md"):
            continue
        for target in LINK.findall(text):
            place = target.partition("#")[0]
            if place and "://" not in place and not place.startswith("mailto:"):
                known = (ROOT / path).parent / place
                if not known.exists():
                    dead.append(f"{path} -> {target}")
    assert not dead


def test_every_make_target_is_told_by_help() -> None:
    text = _read("Makefile")
    targets = re.findall(r"^\.PHONY: (.+)$", text, re.M)[0].split()
    helped = set(re.findall(r"^([a-z-]+):.*##", text, re.M))
    assert set(targets) == helped


def test_constraints_pin_every_dependency() -> None:
    project = _project()["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(item for extra in extras for item in extra)]
    names = {re.split(r"[<>=!~;\[ ]", item)[0].lower().replace("_", "-") for item in wanted}
    assert names <= set(_pinned("constraints.txt"))


def test_images_install_what_the_constraints_pin() -> None:
    assert _pinned("constraints-image.txt").items() <= _pinned("constraints.txt").items()


def test_every_locked_package_of_the_images_has_a_hash() -> None:
    for path in ("constraints-image.txt", "constraints-build.txt"):
        assert _read(path).count("==") <= _read(path).count("--hash=sha256:")


def test_compose_publishes_the_ports_of_the_listener_table() -> None:
    """Each once per instance, on 127.0.0.1 only, and none that the table does not publish."""
    for name, service in _compose()["services"].items():
        program = name.split("-")[0]
        inside = {53: 8600}  # the front's port inside the compose network
        published = {
            (inside.get(row.port, row.port), kind)
            for row in LISTENERS
            if row.program == program and row.published
            for kind in row.protocol.split("+")
        }
        found = [PORT.match(port) for port in service.get("ports", [])]
        # where what is secured is published is PUBLIC_BIND's to say, and by default 127.0.0.1
        secured = {row.port for row in LISTENERS if row.security is not Security.PLAIN}
        for port in found:
            public = port and int(port["inner"]) in secured
            allowed = {"127.0.0.1", "${PUBLIC_BIND:-127.0.0.1}"} if public else {"127.0.0.1"}
            assert port and port["host"] in allowed, name
        assert all(found), name
        ports = {
            (inside.get(int(port["inner"]), int(port["inner"])), port["kind"] or "tcp")
            for port in found
            if port
        }
        assert ports == (published if ports else set()), name
        assert HEALTH_PORT not in {port for port, _ in ports}


def test_every_program_of_compose_is_in_the_listener_table() -> None:
    portless = {"issuer"}  # files are all it speaks by
    assert {name.split("-")[0] for name in _compose()["services"]} <= {*PROGRAMS, *portless}


def test_every_service_of_compose_is_hardened() -> None:
    for name, service in _compose()["services"].items():
        assert service["init"] and service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] and service["mem_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert "privileged" not in service and "cap_add" not in service, name


def test_no_service_of_compose_has_a_fixed_container_name() -> None:
    """Two stacks on one engine would meet."""
    assert not [name for name, one in _compose()["services"].items() if "container_name" in one]


def test_the_example_environment_names_what_compose_reads() -> None:
    read = set(re.findall(r"\$\{([A-Z_0-9]+)", _read("docker-compose.yml")))
    named = set(re.findall(r"^#?([A-Z_0-9]+)=", _read(".env.example"), re.M))
    assert read == named


def test_compose_and_the_example_environment_have_the_same_defaults() -> None:
    said = re.sub(r"\$\{PUBLIC_HOST:\+[^\n]*?\}\}\}", "}", _read("docker-compose.yml"))
    said = said.replace(
        "${ADVERTISE_IPS:-127.0.0.1:${MEDIA_PORT:-8189}", "${ADVERTISE_IPS:-127.0.0.1}"
    )
    defaults = dict(re.findall(r"\$\{([A-Z_0-9]+):-([^}]*)\}", said))
    named = dict(re.findall(r"^#?([A-Z_0-9]+)=(.*)$", _read(".env.example"), re.M))
    assert defaults == named


def test_the_dockerfile_needs_no_frontend_from_a_registry() -> None:
    assert not re.search(r"^#\s*syntax", _read("Dockerfile"), re.M)


def test_the_build_ca_is_tracked_and_empty() -> None:
    assert "certs/build-ca.pem" in tracked()
    assert (ROOT / "certs/build-ca.pem").stat().st_size == 0


def test_scripts_parse() -> None:
    scripts = [path for path in tracked() if path.endswith(".sh") or path == ".ci/run"]
    for path in scripts:
        subprocess.run(["bash", "-n", path], cwd=ROOT, check=True)
        assert (ROOT / path).stat().st_mode & 0o111, f"{path} is not executable"
        assert "set -euo pipefail" in _read(path), path


def test_every_decision_is_in_the_index() -> None:
    index = _read("docs/decisions/README.md")
    missing = [
        path
        for path in tracked()
        if re.match(r"docs/decisions/\d", path) and Path(path).name not in index
    ]
    assert not missing


def test_the_readme_walks_through_what_make_up_prints() -> None:
    """Each command stands in a console block after `$ `; tests/integration runs it there."""
    readme = _read("README.md")
    lines = _read("make/what-to-try.txt").splitlines()
    tries = [line.strip() for line in lines if line.startswith("  ")]
    assert [command for command in tries if f"\n$ {command}" not in readme] == []
