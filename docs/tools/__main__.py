"""`python -m docs.tools`: renew everything; `--types`: only what needs no cluster; `--check`: only look at that."""

from __future__ import annotations

import asyncio
import sys

from docs.tools.generate import ROOT, real_run, stale, write_examples, write_from_types


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        old = stale()
        for path in old:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not as the types say: run `make docs`\n")
        return 1 if old else 0
    if arguments not in ([], ["--types"]):
        sys.stderr.write("usage: python -m docs.tools [--types | --check]\n")
        return 2
    write_from_types()
    if not arguments:
        changed = write_examples(asyncio.run(real_run()).examples)
        sys.stdout.write(f"examples renewed: {', '.join(changed) or 'none'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
