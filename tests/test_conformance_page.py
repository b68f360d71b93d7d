"""docs/conformance.md is what the tests say, and has no gaps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_conformance_page_is_fresh_and_whole():
    """Every behaviour has a test or a reason."""
    command = [sys.executable, "tools/generate_conformance_page.py", "--check"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "" == finished.stderr
    assert 0 == finished.returncode
