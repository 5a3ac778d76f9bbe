"""The examples of the documentation run as they stand, as a user's tests, without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.sources import ROOT

EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
TIMEOUT_S = 60.0


@pytest.mark.slow
def test_examples_pass_in_four_processes_at_once(tmp_path: Path) -> None:
    document = (ROOT / "docs/testing-tls.md").read_text("utf-8")
    examples = EXAMPLE.findall(document)
    for number, example in enumerate(examples):
        (tmp_path / f"test_example_{number}.py").write_text(example, encoding="utf-8")
    without = ["-p", "no:cacheprovider", "-p", "no:asyncio"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "4", "-W", "error", *without],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{document.count('def test_')} passed" in done.stdout
