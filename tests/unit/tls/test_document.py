"""docs/tls.md: its commands are run as they stand there, in order."""

from __future__ import annotations

import re
import shlex

from tests.harness.sources import ROOT
from tests.unit.tls.conftest import Tool

DOCUMENT = (ROOT / "docs/tls.md").read_text("utf-8")


def test_each_command_of_the_document_works(tls: Tool) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines]
    ours = [words[2:] for words in commands if words[:2] == ["callboard", "tls"]]
    assert len(ours) >= 12
    for words in ours:
        tls.good(" ".join(words))


def test_each_verb_is_in_the_document(tls: Tool) -> None:
    told = tls.good("-h").partition("Subcommands:\n")[2]
    verbs = re.findall(r"^    ([a-z]+(?: create)?) ", told, re.M)
    assert len(verbs) == 8
    assert [verb for verb in verbs if f"callboard tls {verb}" not in DOCUMENT] == []


def test_each_flag_is_on_the_programs_page(tls: Tool) -> None:
    page = (ROOT / "services/callboard/tls/README.md").read_text("utf-8")
    verbs = ("ca create", "cert create", "renew", "revoke", "crl", "show", "verify", "trust")
    for verb in verbs:
        flags = re.findall(r"^  -([a-z-]+)", tls.good(f"{verb} -h"), re.M)
        assert [flag for flag in flags if f"-{flag}" not in page] == [], verb
