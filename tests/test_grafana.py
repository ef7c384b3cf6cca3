"""The dashboard in examples/grafana: it asks for what is exported, and Grafana can lay it out."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastpool

pytest.importorskip("prometheus_client")

import fastpool.prometheus

FILE = Path(__file__).parents[1] / "examples" / "grafana" / "fastpool.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# PromQL's own words in the expressions: what follows `by` and `(` are labels, what has a brace or a bracket after it metrics.
FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "by"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FILE.read_text())
    return loaded


@pytest.fixture(scope="module")
def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for panel in dashboard["panels"] for one in (panel, *panel.get("panels", []))]


def targets(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield from panel.get("targets", [])


@pytest.fixture(scope="module")
def exported() -> dict[str, dict[str, set[str]]]:
    """Of each sample the labels and their values, from a pool."""
    collector = fastpool.prometheus.Collector(registry=None)
    found: dict[str, dict[str, set[str]]] = {}
    with fastpool.Pool(1, "pool") as pool:
        collector.add(pool)
        for family in collector.collect():
            for sample in family.samples:
                for label, value in sample.labels.items():
                    found.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    return found


def test_expressions_name_what_is_exported(
    panels: list[dict[str, Any]], exported: dict[str, dict[str, set[str]]]
) -> None:
    asked = set()
    for target in targets(panels):
        expression = target["expr"]
        selectors = re.findall(r"(\w+)\{([^}]*)\}", expression)
        assert selectors
        labels = set.intersection(*(set(exported[name]) for name, _ in selectors))
        for name, matchers in selectors:
            asked.add(name)
            for label, operator, value in re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', matchers):
                assert label in exported[name], expression
                if value != "$pool":
                    assert set(value.split("|")) <= exported[name][label], expression
                    assert ("|" not in value) or operator in ("=~", "!~")
            assert 'pool=~"$pool"' in matchers, expression
        for grouping in re.findall(r"by \(([^)]*)\)", expression):
            assert set(grouping.split(", ")) <= labels, expression
        # And there is no other name in it.
        rest = re.sub(r'\w+\{[^}]*\}|by \([^)]*\)|\$__rate_interval|"[^"]*"', "", expression)
        assert set(re.findall(r"[a-z_]\w*", rest)) <= FUNCTIONS, expression
        for placeholder in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert f"by ({placeholder}" in expression or f", {placeholder}" in expression, target
    wanted = {name for name in exported if not name.endswith(("_sum", "_count"))}
    assert wanted <= asked, "exported, and not on the dashboard"


def test_counters_are_asked_for_their_rate_and_gauges_are_not(panels: list[dict[str, Any]]) -> None:
    for target in targets(panels):
        for before, name, after in re.findall(r"(\w+)?\(?(fastpool_\w+)\{[^}]*\}(\[)?", target["expr"]):
            counter = name.endswith(("_total", "_bucket", "_sum", "_count"))
            assert bool(after) == counter, target["expr"]
            assert (before in ("rate", "increase")) == counter, target["expr"]


def test_brackets_are_closed(panels: list[dict[str, Any]]) -> None:
    for target in targets(panels):
        open_brackets = []
        for character in target["expr"]:
            if character in "([{":
                open_brackets.append(")]}"["([{".index(character)])
            elif character in ")]}":
                assert open_brackets.pop() == character, target["expr"]
        assert open_brackets == []


def test_panels_have_ids_of_their_own_and_titles(panels: list[dict[str, Any]]) -> None:
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    assert all(panel["title"] for panel in panels)
    for panel in panels:
        references = [target["refId"] for target in panel.get("targets", [])]
        assert len(references) == len(set(references))
    assert {"timeseries", "heatmap", "stat", "row"} == {panel["type"] for panel in panels}


def test_panels_do_not_overlap(panels: list[dict[str, Any]]) -> None:
    boxes = [panel["gridPos"] for panel in panels]
    for box in boxes:
        assert box["x"] >= 0 and box["x"] + box["w"] <= 24 and box["w"] > 0 and box["h"] > 0
    for one, other in itertools.combinations(boxes, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_the_data_source_is_a_variable_everywhere(dashboard: dict[str, Any], panels: list[dict[str, Any]]) -> None:
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "pool"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["pool"]["datasource"] == DATASOURCE
    assert variables["pool"]["query"]["query"] == "label_values(fastpool_workers, pool)"
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"] == DATASOURCE
            assert panel["targets"]
    assert all(target["datasource"] == DATASOURCE for target in targets(panels))


def test_it_is_of_no_grafana_in_particular(dashboard: dict[str, Any]) -> None:
    assert dashboard["id"] is None
    assert dashboard["uid"] and dashboard["title"]
    assert 36 <= dashboard["schemaVersion"] <= 41, "Grafana 10 and 11; newer ones migrate it"


def test_the_readme_shows_what_there_is() -> None:
    text = FILE.with_name("README.md").read_text()
    assert FILE.name in text
    for word in ("fastpool.prometheus.register", "start_http_server", "scrape_configs"):
        assert word in text
