"""The dashboard asks for figures that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOARD = json.loads((ROOT / "charts" / "chatcluster" / "files" / "dashboard.json").read_text())
SOURCES = "\n".join(
    path.read_text()
    for folder in ("chatkernel", "chatpod", "apipod", "worker", "prober", "operator/chatoperator/kube")
    for path in (ROOT / folder).rglob("*.py")
)
FIGURE = re.compile(r"\b(chatcluster_\w+|chat_\w+|process_\w+)\{|\b(chatcluster_operator_\w+)")


def test_every_figure_is_one_that_a_pod_tells() -> None:
    asked = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    figures = {one or other for expression in asked for one, other in FIGURE.findall(expression)}
    assert len(figures) > 10
    for figure in figures:
        # The operator puts its prefix before the name.
        assert f'"{figure.removeprefix("chatcluster_")}"' in SOURCES or f'"{figure}"' in SOURCES, figure


def test_panels_have_places_of_their_own() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in BOARD["panels"]]
    assert len(set(places)) == len(places)
