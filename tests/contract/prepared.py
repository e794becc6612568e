"""All prepared statements of the SQL adapter, for the tests of their plans."""

from __future__ import annotations

import importlib
import pkgutil

import chatkernel.storage.sql as adapter
from chatkernel.storage.sql.statements import Query, Write


def prepared() -> dict[str, Query | Write]:
    found: dict[str, Query | Write] = {}
    for info in pkgutil.iter_modules(adapter.__path__):
        module = importlib.import_module(f"{adapter.__name__}.{info.name}")
        for name, value in vars(module).items():
            if isinstance(value, Query | Write) and value not in found.values():
                found[f"{info.name}.{name}"] = value
    return found


STATEMENTS = prepared()
