"""What is generated, compared with what is there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from chatoperator.crd import crd_text
from docs.tools.blocks import blocks_of, with_blocks
from docs.tools.cluster import cluster
from docs.tools.conversation import Run, converse
from docs.tools.objects import EXAMPLES, object_tables, whole_cluster
from docs.tools.reference import reference_tables
from docs.tools.render import Example, Exchange, markdown, parse
from docs.tools.steady import shape
from docs.tools.storage import storage_tables
from docs.tools.tables import tables

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
PROTOCOL = DOCS / "protocol.md"
STORAGE = DOCS / "storage.md"
REFERENCE = DOCS / "kubernetes" / "reference.md"
OBJECTS = DOCS / "kubernetes" / "objects.md"
CRD = ROOT / "crds" / "chatclusters.yaml"
CHARTS_CRD = ROOT / "charts" / "chatcluster" / "files" / "chatclusters.yaml"
"""helm reads nothing outside of a chart."""


def from_types() -> dict[Path, str]:
    """The files that follow from the types alone, as they should be."""
    return {
        PROTOCOL: _renewed(PROTOCOL, tables()),
        STORAGE: _renewed(STORAGE, storage_tables()),
        REFERENCE: _renewed(REFERENCE, reference_tables()),
        OBJECTS: _renewed(OBJECTS, object_tables()),
        OBJECTS.with_name("objects-small.yaml"): whole_cluster(EXAMPLES / "chatcluster.yaml"),
        OBJECTS.with_name("objects-production.yaml"): whole_cluster(EXAMPLES / "chatcluster-production.yaml"),
        CRD: crd_text(),
        CHARTS_CRD: crd_text(),
    }


def _renewed(path: Path, made: dict[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    there = blocks_of(text)
    return with_blocks(text, {name: body for name, body in made.items() if name in there})


def stale() -> list[Path]:
    """Files that are not as the types say."""
    return [
        path
        for path, text in from_types().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def write_from_types() -> None:
    for path, text in from_types().items():
        path.write_text(text, encoding="utf-8")


async def real_run() -> Run:
    """A run that is made now, on a cluster of its own."""
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        async with cluster(Path(folder)) as running:
            return await converse(running)


def shown_examples() -> dict[str, Example]:
    """The examples as docs/protocol.md shows them."""
    blocks = blocks_of(PROTOCOL.read_text(encoding="utf-8"))
    return {
        name.removeprefix("example."): parse(body)
        for name, body in blocks.items()
        if name.startswith("example.") and body
    }


def outline(example: Example) -> list[Any]:
    """What an example says, without the values that differ from run to run."""
    if isinstance(example, Exchange):
        return [example.request, shape(example.body), example.status, shape(example.answer)]
    return [[line.who, line.way, line.said if line.way == "--" else shape(line.said)] for line in example]


def write_examples(examples: dict[str, Example]) -> list[str]:
    """Renew the examples that have changed in more than values; their names."""
    text = PROTOCOL.read_text(encoding="utf-8")
    wanted = {name.removeprefix("example.") for name in blocks_of(text) if name.startswith("example.")}
    shown = shown_examples()
    changed = [
        name
        for name in examples
        if name in wanted and (name not in shown or outline(shown[name]) != outline(examples[name]))
    ]
    bodies = {f"example.{name}": markdown(examples[name]) for name in changed}
    PROTOCOL.write_text(with_blocks(text, bodies), encoding="utf-8")
    return changed
