"""Runs a laptop cluster for tests, if asked with other builds of some services: `run_cluster.py OPTIONS_JSON`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import msgspec

from chatoperator.laptop import Options, up
from chatoperator.model import PodKind

SERVICES = {PodKind.CHAT: "chatpod.main", PodKind.API: "apipod.main", PodKind.WORKER: "worker.main"}


def main() -> None:
    asked = json.loads(sys.argv[1])
    options = Options(
        Path(asked["data"]), Path(asked["file"]), port=asked["port"], store_url=asked["store"] or None
    )
    if asked["builds"]:
        commands = {kind: (sys.executable, "-m", module) for kind, module in SERVICES.items()}
        commands |= {PodKind(kind): (sys.executable, path) for kind, path in asked["builds"].items()}
        options = msgspec.structs.replace(options, commands=commands)
    asyncio.run(up(options))


if __name__ == "__main__":
    main()
