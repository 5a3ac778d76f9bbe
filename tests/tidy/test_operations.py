"""docs/operations.md shows the ports and metrics that the code has."""

from __future__ import annotations

import re
import urllib.request

from tests.harness.in_process import running
from tests.harness.sources import ROOT, programs_code

from callboard.chassis.listeners import as_markdown
from callboard.gateway.commands.findings import METRICS_READ
from callboard.gateway.service import GatewayProgram
from callboard.gateway.settings import GatewaySettings
from callboard.testing import Catalog

DOCUMENT = (ROOT / "docs/operations.md").read_text("utf-8")
METRIC = re.compile(r"\bcallboard_[a-z_]+[a-z]\b")
EXPORTED = re.compile(r"^# TYPE (callboard_\w+) ", re.M)


def told(program: str, document: str = DOCUMENT) -> set[str]:
    """Return the metrics in the table of a program."""
    table = document.partition(f"<!-- metrics: {program} -->\n\n")[2].partition("\n\n")[0]
    return {found for line in table.splitlines()[2:] for found in METRIC.findall(line)}


def test_ports_are_those_of_the_listener_table() -> None:
    assert as_markdown() in DOCUMENT, "it is not what chassis.listeners.as_markdown() answers"


def test_an_agents_metrics_are_told_whole(catalog: Catalog) -> None:
    url = f"{catalog.url}/v1/agent/metrics?format=prometheus"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    assert told("agent") == set(EXPORTED.findall(text))


def test_the_name_servers_metrics_are_told_whole() -> None:
    programs = ("services/callboard/nameserver/service.py", "libs/callboard/chassis/metrics.py")
    sources = [(ROOT / path).read_text("utf-8") for path in programs]
    exported = {
        name for source in sources for name in re.findall(r'"(callboard_\w+[a-z])"', source)
    }
    assert told("nameserver") == exported


def test_the_file_servers_metrics_are_told_whole() -> None:
    own = [module.text for module in programs_code() if ".fileserver." in module.dotted]
    sources = [*own, (ROOT / "libs/callboard/chassis/metrics.py").read_text("utf-8")]
    exported = {
        name for source in sources for name in re.findall(r'"(callboard_\w+[a-z])"', source)
    }
    document = (ROOT / "docs/fileserver.md").read_text("utf-8")
    assert told("fileserver", document) == exported


def test_the_metrics_of_identities_are_told_whole() -> None:
    source = (ROOT / "libs/callboard/chassis/identity.py").read_text("utf-8")
    assert told("identity") == set(re.findall(r'"(callboard_\w+[a-z])"', source))


def test_the_hubs_metrics_are_told_whole() -> None:
    own = (ROOT / "services/callboard/hub/figures.py").read_text("utf-8")
    shared = (ROOT / "libs/callboard/chassis/metrics.py").read_text("utf-8")
    assert told("hub") == set(re.findall(r'"(callboard_\w+[a-z])"', own + shared))


def test_the_issuers_metrics_are_told_whole() -> None:
    own = [module.text for module in programs_code() if ".issuer." in module.dotted]
    sources = [*own, (ROOT / "libs/callboard/chassis/metrics.py").read_text("utf-8")]
    exported = {
        name for source in sources for name in re.findall(r'"(callboard_\w+[a-z])"', source)
    }
    assert told("issuer") == exported


async def test_the_gateways_metrics_are_told_whole_and_its_doctor_reads_some_of_them() -> None:
    async with running(GatewayProgram(GatewaySettings(port=0, media_port=0))) as gateway:
        exported = set(EXPORTED.findall(gateway.metrics.text().decode()))
    assert told("gateway") == exported
    assert exported >= METRICS_READ
