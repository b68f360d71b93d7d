"""The committed page describes the settings that exist."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_configuration_page_is_what_the_generator_makes_of_the_settings():
    path = ROOT / "tools" / "generate_configuration_docs.py"
    spec = importlib.util.spec_from_file_location("generate_configuration_docs", path)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)

    committed = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert generator.render_page() == committed, "run tools/generate_configuration_docs.py"
