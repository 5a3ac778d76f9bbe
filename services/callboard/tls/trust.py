"""`callboard tls trust`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import Failed, UsageError
from callboard.pki import certificates, reading, verification
from callboard.pki.trust import CHROMIUM, FIREFOX, STORES, SYSTEM, Anchor, Machine, Step, steps
from callboard.tls import files

COMMAND_TIMEOUT_S = 120.0

FLAGS = FlagSet(
    """Usage: callboard tls trust [options]

  Have this machine's programs, Firefox and Chromium trust the CA. What this cannot do by itself
  (without being root, or without a tool) it prints, command by command, and exits with 1.

  $ callboard tls trust -ca certs/out/ca.pem
  $ callboard tls trust -ca certs/out/ca.pem --uninstall""",
    [
        flags.text("ca", "Certificate of the CA; #DOMAIN#-agent-ca.pem."),
        flags.text("domain", "Domain of the cluster.", "consul"),
        flags.switch("print", "Only print the commands."),
        flags.text("stores", "Which ones.", ",".join(STORES)),
        flags.switch("uninstall", "Trust it no more."),
    ],
)


def trust(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Add the CA to the machine's and the browsers' stores, or take it out."""
    return files.call(FLAGS, argv, lambda parsed: _trust(parsed, environ))


def _trust(parsed: Parsed, environ: Mapping[str, str]) -> int:
    if parsed.args:
        raise UsageError(f"unexpected argument {parsed.args[0]!r}")
    stores = parsed.text("stores").split(",")
    if not set(stores) <= set(STORES):
        raise UsageError(f"-stores are some of {', '.join(STORES)}")
    anchor = _anchor(files.ca_place(parsed))
    remove = parsed.switch("uninstall")
    print(f"==> {anchor.name}, SHA-256 fingerprint {anchor.fingerprint}")
    if environ.get("SUDO_USER") and stores == list(STORES):
        print(f"==> The browsers' stores are {environ['SUDO_USER']}'s: do them without sudo, by")
        print(f"    -stores={FIREFOX},{CHROMIUM}")
        stores = [SYSTEM]
    planned = steps(anchor, _machine(environ), stores, remove=remove)
    for store in stores:
        if not any(step.store == store for step in planned):
            print(f"==> {store}: nothing here to change")
    left = planned if parsed.switch("print") else _do(planned, remove)
    if not left:
        return 0
    print("==> To be done by hand:")
    for step in left:
        print(f"    {typed(step, sys.platform)}")
    for missing in sorted({step.missing for step in left if step.missing}):
        print(f"    (not installed here: {missing})")
    return 0 if parsed.switch("print") else 1


def typed(step: Step, platform: str) -> str:
    """A step as one types it in a shell of the platform."""
    if platform == "win32":
        return subprocess.list2cmdline(step.argv)
    return shlex.join((*(["sudo"] if step.privileged else []), *step.argv))


def _anchor(path: Path) -> Anchor:
    found = reading.read_certificate(path)
    if not verification.is_authority(found):
        raise Failed(f"{path}: not the certificate of a CA")
    if not _constrained(found):
        print("==> WARNING: This CA may sign for every name there is: whoever gets its key")
        print("    can pass for any site towards who trusts it.")
    fingerprint = certificates.fingerprint(found)
    name = f"{verification.common_name(found.subject)} {fingerprint.replace(':', '')[:8]}"
    return Anchor(path.absolute(), name, fingerprint, found.serial_number)


def _constrained(authority: x509.Certificate) -> bool:
    try:
        authority.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return False
    return True


def _machine(environ: Mapping[str, str]) -> Machine:
    search = environ.get("PATH", os.defpath)
    home = environ.get("HOME") or environ.get("USERPROFILE") or str(Path.home())
    return Machine(
        sys.platform, Path(home), lambda tool: shutil.which(tool, path=search) is not None
    )


def _do(planned: Sequence[Step], remove: bool) -> list[Step]:
    """Run what can be run; what is left. A store whose step failed is left from there on."""
    left: list[Step] = []
    stopped: set[str] = set()
    for step in planned:
        group = step.store if step.store == SYSTEM else step.where
        if group in stopped or not _possible(step) or not _run(step):
            stopped.add(group)
            left.append(step)
    done = {step.store if step.store == SYSTEM else step.where: step for step in planned}
    for group, step in done.items():
        if group not in stopped:
            state = "trusts it no more" if remove else "trusts it"
            print(f"==> {step.store} ({step.where}) {state}")
    return left


def _possible(step: Step) -> bool:
    administrator = not hasattr(os, "geteuid") or os.geteuid() == 0
    return not step.missing and (administrator or not step.privileged)


def _run(step: Step) -> bool:
    try:
        done = subprocess.run(
            step.argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        print(f"{step.argv[0]}: {problem}", file=sys.stderr)
        return False
    if done.returncode and not step.may_fail:
        said = " ".join((done.stderr or done.stdout).split())[:300]
        print(f"{step.argv[0]}: {said or f'exit code {done.returncode}'}", file=sys.stderr)
        return False
    return True
