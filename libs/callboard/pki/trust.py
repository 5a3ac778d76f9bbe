"""Trust stores: where a machine and its browsers keep the CAs they believe, and how one gets in.

Only what is to be done is said here (`steps`); the caller does it, or shows it. What a store is
called, and which tool changes it: Debian update-ca-certificates(8), Fedora update-ca-trust(8), Arch
trust(1), macOS security(1), Windows certutil, and NSS certutil(1) for Firefox and Chromium.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEM = "system"
FIREFOX = "firefox"
CHROMIUM = "chromium"
STORES = (SYSTEM, FIREFOX, CHROMIUM)

ANCHORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/usr/local/share/ca-certificates", ("update-ca-certificates",)),
    ("/etc/pki/ca-trust/source/anchors", ("update-ca-trust", "extract")),
    ("/etc/ca-certificates/trust-source/anchors", ("trust", "extract-compat")),
    ("/usr/share/pki/trust/anchors", ("update-ca-certificates",)),
)
"""Debian, Fedora, Arch, openSUSE: where an administrator puts a CA, and what makes it known."""

FIREFOX_PROFILES = (
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
    "Library/Application Support/Firefox/Profiles",
)
"""Below the home directory: folders of profiles, each with a cert9.db."""

CHROMIUM_STORES = (".pki/nssdb", ".local/share/pki/nssdb", "snap/chromium/current/.pki/nssdb")
"""The first is made where there is none."""

NSS_PACKAGE = "libnss3-tools (Debian), nss-tools (Fedora), nss (Arch, Homebrew)"


@dataclass(frozen=True, slots=True)
class Anchor:
    """The CA that is to be trusted, or not any more."""

    certificate: Path
    """Its PEM file."""
    name: str
    """What lists of CAs show; with the fingerprint's beginning, so that no two are the same."""
    fingerprint: str
    """SHA-256 in hexadecimal, with colons."""
    serial: int

    @property
    def file_name(self) -> str:
        """Of the copy that a system's folder gets."""
        return f"callboard-{self.fingerprint.replace(':', '')[:16].lower()}.crt"


@dataclass(frozen=True, slots=True)
class Step:
    """One command on one store."""

    store: str
    where: str
    """The store in words: a folder, or a browser's profile."""
    argv: tuple[str, ...]
    privileged: bool = False
    """Whether it takes an administrator."""
    missing: str = ""
    """The tool that is not there, and which package has it."""
    may_fail: bool = False
    """Removing what is not there is no failure."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is there to be changed."""

    platform: str
    """sys.platform: "linux", "darwin", "win32"."""
    home: Path
    has: Callable[[str], bool]
    """Whether a tool is installed."""
    root: Path = Path("/")


def steps(
    anchor: Anchor, machine: Machine, stores: Iterable[str] = STORES, *, remove: bool = False
) -> list[Step]:
    """What is to be done, in order, to have `stores` trust the CA; or `remove` it from them.

    A store that this machine does not have (no Firefox profile) gives no step.
    """
    wanted = frozenset(stores)
    found: list[Step] = []
    if SYSTEM in wanted:
        found += _system(anchor, machine, remove)
    if FIREFOX in wanted and machine.platform != "win32":
        # there Firefox believes whom the system does
        for profile in firefox_profiles(machine.home):
            found += _nss(FIREFOX, anchor, machine, profile, remove)
    if CHROMIUM in wanted and machine.platform.startswith("linux"):
        # elsewhere Chromium looks at the system's store
        for directory in chromium_stores(machine.home, remove):
            found += _nss(CHROMIUM, anchor, machine, directory, remove)
    return found


def firefox_profiles(home: Path) -> list[Path]:
    """The profiles of a user, wherever Firefox is installed from."""
    found: list[Path] = []
    for place in FIREFOX_PROFILES:
        found += (path.parent for path in (home / place).glob("*/cert9.db"))
    return sorted(found)


def chromium_stores(home: Path, existing_only: bool = False) -> list[Path]:
    """The user's NSS databases; the usual one also when it is not there yet."""
    known = [home / place for place in CHROMIUM_STORES]
    found = [path for path in known if (path / "cert9.db").exists()]
    return found if found or existing_only else known[:1]


def _system(anchor: Anchor, machine: Machine, remove: bool) -> list[Step]:
    if machine.platform == "darwin":
        return [_mac(anchor, remove)]
    if machine.platform == "win32":
        return [_windows(anchor, remove)]
    for place, update in ANCHORS:
        folder = machine.root / place.lstrip("/")
        if folder.is_dir() and machine.has(update[0]):
            return _anchored(anchor, folder, update, remove)
    missing = "update-ca-certificates (ca-certificates) or update-ca-trust"
    place, update = ANCHORS[0]
    planned = _anchored(anchor, machine.root / place.lstrip("/"), update, remove)
    return [dataclasses.replace(step, missing=missing) for step in planned]


def _anchored(anchor: Anchor, folder: Path, update: tuple[str, ...], remove: bool) -> list[Step]:
    target = str(folder / anchor.file_name)
    copy = ("install", "-D", "-m", "0644", str(anchor.certificate), target)
    change = ("rm", "-f", target) if remove else copy
    return [_administrator(target, change), _administrator(str(folder), update)]


def _mac(anchor: Anchor, remove: bool) -> Step:
    keychain = "/Library/Keychains/System.keychain"
    argv: Sequence[str] = (
        ("security", "remove-trusted-cert", "-d", str(anchor.certificate))
        if remove
        else (
            *("security", "add-trusted-cert", "-d", "-r", "trustRoot"),
            *("-k", keychain, str(anchor.certificate)),
        )
    )
    return _administrator(keychain, argv)


def _windows(anchor: Anchor, remove: bool) -> Step:
    argv = (
        ("certutil", "-delstore", "Root", f"{anchor.serial:x}")
        if remove
        else ("certutil", "-addstore", "-f", "Root", str(anchor.certificate))
    )
    return Step(SYSTEM, "Root", argv)


def _administrator(where: str, argv: Sequence[str]) -> Step:
    return Step(SYSTEM, where, tuple(argv), privileged=True)


def _nss(store: str, anchor: Anchor, machine: Machine, directory: Path, remove: bool) -> list[Step]:
    there = machine.has("certutil")
    missing = "" if there else f"certutil, of the package {NSS_PACKAGE}"

    def step(*argv: str, may_fail: bool = False) -> Step:
        return Step(store, str(directory), argv, missing=missing, may_fail=may_fail)

    database = f"sql:{directory}"
    if remove:
        return [step("certutil", "-D", "-d", database, "-n", anchor.name, may_fail=True)]
    found: list[Step] = []
    if not (directory / "cert9.db").exists():
        found.append(step("mkdir", "-p", str(directory)))
        found.append(step("certutil", "-N", "-d", database, "--empty-password"))
    trusted = ("-t", "C,,", "-n", anchor.name, "-i", str(anchor.certificate))
    found.append(step("certutil", "-A", "-d", database, *trusted))
    return found
