"""`callboard tls trust`: what it does where it can, and the commands it prints where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.certified import CA
from tests.harness.handmade import make
from tests.harness.tls_peers import run
from tests.unit.tls.conftest import Tool, powerless

from callboard.pki import certificates, reading
from callboard.pki.trust import CHROMIUM, FIREFOX, SYSTEM, Anchor, Machine, Step, steps
from callboard.tls.trust import typed

ANCHOR = Anchor(
    Path("/x/ca.pem"), "Callboard CA 1 AABBCCDD", "AA:BB:CC:DD:" * 7 + "00:11:22:33", 255
)
COPY = "callboard-aabbccddaabbccdd.crt"


def machine(root: Path, platform: str = "linux", *tools: str) -> Machine:
    return Machine(platform, root / "home", lambda tool: tool in tools, root)


def lines(planned: list[Step], platform: str = "linux") -> list[str]:
    return [typed(step, platform) for step in planned]


@pytest.mark.parametrize(
    ("folder", "tool", "update"),
    [
        ("usr/local/share/ca-certificates", "update-ca-certificates", "update-ca-certificates"),
        ("etc/pki/ca-trust/source/anchors", "update-ca-trust", "update-ca-trust extract"),
        ("etc/ca-certificates/trust-source/anchors", "trust", "trust extract-compat"),
        ("usr/share/pki/trust/anchors", "update-ca-certificates", "update-ca-certificates"),
    ],
)
def test_each_linux_has_its_folder_and_its_tool(
    tmp_path: Path, folder: str, tool: str, update: str
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    here = machine(tmp_path, "linux", tool)
    assert lines(steps(ANCHOR, here, [SYSTEM])) == [
        f"sudo install -D -m 0644 /x/ca.pem {tmp_path}/{folder}/{COPY}",
        f"sudo {update}",
    ]
    assert lines(steps(ANCHOR, here, [SYSTEM], remove=True)) == [
        f"sudo rm -f {tmp_path}/{folder}/{COPY}",
        f"sudo {update}",
    ]


def test_a_linux_without_such_a_tool_is_told_which_is_missing(tmp_path: Path) -> None:
    planned = steps(ANCHOR, machine(tmp_path), [SYSTEM])
    assert len(planned) == 2
    assert all("update-ca-certificates" in step.missing for step in planned)


def test_a_mac_has_its_keychain(tmp_path: Path) -> None:
    here = machine(tmp_path, "darwin")
    assert lines(steps(ANCHOR, here)) == [
        "sudo security add-trusted-cert -d -r trustRoot "
        "-k /Library/Keychains/System.keychain /x/ca.pem"
    ]
    assert lines(steps(ANCHOR, here, remove=True)) == [
        "sudo security remove-trusted-cert -d /x/ca.pem"
    ]


def test_windows_has_its_store(tmp_path: Path) -> None:
    here = machine(tmp_path, "win32", "certutil")
    planned = steps(ANCHOR, here)
    assert planned[0].argv == ("certutil", "-addstore", "-f", "Root", str(ANCHOR.certificate))
    assert len(planned) == 1, "browsers believe the system's store there"
    assert lines(steps(ANCHOR, here, remove=True), "win32") == ["certutil -delstore Root ff"]


def test_firefox_is_found_wherever_it_is_installed_from(tmp_path: Path) -> None:
    for place in (".mozilla/firefox/a.default", "snap/firefox/common/.mozilla/firefox/b"):
        (tmp_path / "home" / place).mkdir(parents=True)
        (tmp_path / "home" / place / "cert9.db").touch()
    planned = steps(ANCHOR, machine(tmp_path, "linux", "certutil"), [FIREFOX])
    assert [step.where for step in planned] == [
        f"{tmp_path}/home/.mozilla/firefox/a.default",
        f"{tmp_path}/home/snap/firefox/common/.mozilla/firefox/b",
    ]
    assert not any(step.missing for step in planned)


def test_a_store_of_chromium_is_made_where_there_is_none(tmp_path: Path) -> None:
    here = machine(tmp_path, "linux", "certutil")
    where = f"{tmp_path}/home/.pki/nssdb"
    assert lines(steps(ANCHOR, here, [CHROMIUM])) == [
        f"mkdir -p {where}",
        f"certutil -N -d sql:{where} --empty-password",
        f"certutil -A -d sql:{where} -t C,, -n 'Callboard CA 1 AABBCCDD' -i /x/ca.pem",
    ]
    assert steps(ANCHOR, here, [CHROMIUM], remove=True) == []


def test_without_its_tool_the_commands_and_the_package_are_printed(with_ca: Tool) -> None:
    done = with_ca("trust -stores=chromium", HOME=str(with_ca.directory), PATH="/nowhere")
    assert done.code == 1
    assert f"    certutil -N -d sql:{with_ca.directory}/.pki/nssdb --empty-password\n" in done.out
    assert "(not installed here: certutil, of the package libnss3-tools (Debian)" in done.out
    assert not Path(".pki").exists()


def test_the_fingerprint_is_printed(with_ca: Tool) -> None:
    expected = certificates.fingerprint(reading.read_certificate(Path("consul-agent-ca.pem")))
    assert expected in with_ca.good("trust -print")


def test_a_ca_without_constraints_is_warned_of(tls: Tool) -> None:
    tls.good("ca create -name-constraint=false")
    assert "WARNING: This CA may sign for every name there is" in tls.good("trust -print")


def test_a_leaf_is_not_trusted(tls: Tool) -> None:
    CA().leaf().write(tls.directory)
    assert tls.refused("trust -ca leaf.pem") == "leaf.pem: not the certificate of a CA"


def test_stores_that_do_not_exist_are_told(with_ca: Tool) -> None:
    done = with_ca("trust -stores=netscape")
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        "-stores are some of system, firefox, chromium",
    )


def test_with_sudo_the_browsers_stores_are_left_to_their_owner(with_ca: Tool) -> None:
    environ = {"HOME": str(with_ca.directory), "SUDO_USER": "anna", "PATH": os.environ["PATH"]}
    done = with_ca("trust -print", **environ)
    assert "The browsers' stores are anna's" in done.out
    assert "nssdb" not in done.out


def test_firefox_profiles_get_it_and_lose_it(with_ca: Tool) -> None:
    require("nss-certutil")
    profile = with_ca.directory / ".mozilla/firefox/abc.default"
    profile.mkdir(parents=True)

    def certutil(*words: str) -> str:
        return run("certutil", *words, "-d", f"sql:{profile}", directory=profile).stdout

    certutil("-N", "--empty-password")
    environ = {"HOME": str(with_ca.directory), "PATH": os.environ["PATH"]}
    for _ in range(2):
        done = with_ca("trust -stores=firefox", **environ)
        assert done.code == 0 and f"==> firefox ({profile}) trusts it\n" in done.out
    listed = [line for line in certutil("-L").splitlines() if "Callboard CA" in line]
    assert len(listed) == 1 and listed[0].rstrip().endswith(" C,,")
    for _ in range(2):
        done = with_ca("trust -stores=firefox --uninstall", **environ)
        assert done.code == 0 and f"==> firefox ({profile}) trusts it no more\n" in done.out
    assert "Callboard CA" not in certutil("-L")


IN_A_NAMESPACE = """
set -eu
mount -t tmpfs tmpfs /usr/local/share/ca-certificates
mkdir "$1/certs"
cp -a /etc/ssl/certs/. "$1/certs"
mount --bind "$1/certs" /etc/ssl/certs
trust() { "$2" -m callboard.chassis.command tls trust -stores=system -ca "$1" $3; }
judge() { openssl verify -CApath /etc/ssl/certs "$1" >&2 && echo accepted || echo refused; }
judge "$3"
trust "$4" "$2" "" >&2
judge "$3"
trust "$4" "$2" --uninstall >&2
judge "$3"
"""


def test_a_debian_trusts_it_and_no_more(tmp_path: Path) -> None:
    """By the real update-ca-certificates, in a mount namespace of its own."""
    require("small-disk", "openssl", "ca-certificates")
    made = make(tmp_path / "made")
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", IN_A_NAMESPACE, "bash", str(tmp_path), sys.executable,
         str(made.server.certificate), str(made.ca)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["refused", "accepted", "refused"], done.stderr
    assert not list(Path("/usr/local/share/ca-certificates").glob("callboard-*"))


def test_without_rights_the_systems_commands_are_printed(with_ca: Tool) -> None:
    require("ca-certificates")
    with powerless(with_ca.directory):
        done = with_ca("trust -stores=system", PATH=os.environ["PATH"])
    assert done.code == 1
    assert "    sudo install -D -m 0644 " in done.out
    assert "    sudo update-ca-certificates\n" in done.out
