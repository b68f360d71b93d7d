"""The page and the examples name metrics that exist."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from trio_kafka_net.metrics import names

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "examples" / "grafana-dashboard.json"

_USED = re.compile(r"\b((?:trio_)?kafka_[a-z_]+|process_[a-z_]+)(\{[^}]*\})?")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def test_the_page_is_what_the_generator_makes_of_the_catalogue():
    path = ROOT / "tools" / "generate_metrics_docs.py"
    spec = importlib.util.spec_from_file_location("generate_metrics_docs", path)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    committed = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert generator.render_page() == committed, "run tools/generate_metrics_docs.py"


def queries(node) -> list[str]:
    """Every query of a dashboard."""
    if isinstance(node, list):
        return [found for each in node for found in queries(each)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in ("expr", "query") if isinstance(node.get(key), str)]
    return own + [found for each in node.values() for found in queries(each)]


QUERIES = queries(json.loads(DASHBOARD.read_text(encoding="utf-8")))


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboard_asks_for_metrics_and_labels_that_exist(query):
    labels_of = {
        name: {*metric.labels, "instance"} | ({"le"} if metric.bounds else set())
        for metric in names.CATALOGUE
        for name in (
            [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
            if metric.kind == "histogram"
            else [metric.name]
        )
    }
    used = _USED.findall(query)
    assert used or query == "prometheus"
    known = set()
    for name, selectors in used:
        assert name in labels_of
        known |= labels_of[name]
        assert set(re.findall(r"(\w+)[=!]~?", selectors)) - {"="} <= labels_of[name]
    for grouped in _GROUPED.findall(query):
        assert {each.strip() for each in grouped.split(",")} <= known


def test_the_dashboard_has_queries():
    assert len(QUERIES) > 20


def test_the_scrape_configuration_names_the_default_ports_and_metrics_that_exist():
    text = (ROOT / "examples" / "prometheus.yml").read_text(encoding="utf-8")
    assert "127.0.0.1:9404" in text
    named = set(re.findall(r"\b(?:trio_)?kafka_[a-z_]+", text))
    assert named <= {metric.name for metric in names.CATALOGUE}
