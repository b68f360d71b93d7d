"""The committed message modules are what the generator makes of kio's schema."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_generated_modules_equal_a_fresh_generation():
    generator = runpy.run_path(str(ROOT / "tools" / "generate_messages.py"))
    directory = ROOT / "trio_kafka_net" / "protocol" / "messages"

    fresh = generator["render_package"]()

    expected = {*fresh, *(f"{name}.py" for name in generator["HAND_WRITTEN"])}
    assert expected == {path.name for path in directory.glob("*.py")}
    assert [name for name, text in fresh.items() if (directory / name).read_text() != text] == []
