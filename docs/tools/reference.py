"""Blocks of docs/kubernetes/reference.md, made from the types of the resource, its rules and its reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chatoperator.crd import COLUMNS
from chatoperator.reasons import Reason
from chatoperator.resource_status import ConditionType, Status
from chatoperator.rules import RULES, TRANSITIONS, Platform
from chatoperator.spec import PodTemplate, Spec
from docs.tools.notes import CONDITIONS
from docs.tools.resource import Row, fields_of, struct_type, words_of
from docs.tools.tables import rows_of

TEMPLATES = ("chatPods.pod", "apiPods.pod", "worker.pod")
"""Where a PodTemplate is: shown once."""
HEADER = ("field", "type", "default", "")


def reference_tables() -> dict[str, str]:
    """Block name to Markdown."""
    return {
        "resource-spec": spec_sections(),
        "resource-rules": rows_of(("field", "rule"), [(f"`{path}`", text) for path, text in _rules()]),
        "resource-fixed": rows_of(("field", ""), [(f"`{each.path}`", each.text) for each in TRANSITIONS]),
        "resource-status": _table(fields_of("", Status)),
        "resource-conditions": rows_of(
            ("condition", "true when"), [(f"`{kind}`", CONDITIONS[kind]) for kind in ConditionType]
        ),
        "resource-reasons": rows_of(
            ("reason", "what it means", "what to do"),
            [(f"`{reason}`", reason.meaning, reason.next_step) for reason in Reason],
        ),
        "resource-columns": rows_of(
            ("column", ""), [(name, f"{words} (`{path}`)") for name, _, path, words in COLUMNS]
        ),
    }


def spec_sections() -> str:
    """Fields that hold no others first, then a section for each part, then the pods' template."""
    fields = list(fields_of("", Spec))
    alone = [row for row in fields if "." not in row.path and not row.is_part]
    parts = [row for row in fields if "." not in row.path and row.is_part]
    sections = [_table(alone)]
    for part in parts:
        inside = [row for row in fields if row.path.startswith(f"{part.path}.")]
        sections.append(f"### {part.path}\n\n{part.words}.\n\n{_table(_short(inside, part.path))}")
    sections.append(_template())
    return "\n".join(sections)


def _short(rows: Iterable[Row], part: str) -> Iterator[Row]:
    for row in rows:
        if row.path in TEMPLATES:
            link = "[Laid over the pods](#the-template-of-pods)"
            yield Row("pod", row.type, row.default, link, False)
        elif not row.path.startswith(tuple(f"{template}." for template in TEMPLATES)):
            yield Row(row.path.removeprefix(f"{part}."), row.type, row.default, row.words, row.is_part)


def _template() -> str:
    where = ", ".join(f"`{path}`" for path in TEMPLATES)
    words = words_of(struct_type(PodTemplate))
    return f"### The template of pods\n\n{where}. {words}.\n\n{_table(fields_of('', PodTemplate))}"


def _table(rows: Iterable[Row]) -> str:
    listed = [(f"`{row.path}`", row.type, row.default, row.words) for row in rows]
    return rows_of(HEADER, listed) if listed else ""


def _rules() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        if rule.cel and Platform.KUBERNETES in rule.where:
            yield rule.path, rule.text
