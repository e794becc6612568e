"""`python -m cluster up|down|load|run|test`: a Kubernetes on this machine (CLUSTER=name for a second one)."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.machine import images, programs
from cluster.machine.layout import MACHINE_ENV, Layout, MachineError, entering
from cluster.machine.machine import Machine

NODES = 3
AT_ONCE = 3
"""Files of tests, on a machine of two cores."""
SHORT = "--short"


def main() -> None:
    options, rest = _options(sys.argv[1:])
    machine = Machine(Layout.of(os.environ))
    try:
        match options.what:
            case "up":
                machine.up(options.nodes, kwok=options.kwok)
                print(
                    f"KUBECONFIG is {machine.layout.kubeconfig}; try: make cluster-run ARGS='kubectl get nodes'"
                )
            case "down":
                machine.down()
            case "build":
                programs.built()
                if options.kwok:
                    programs.kwok()
            case "load":
                machine.load([images.product(tag=options.tag)])
                print(f"{images.PRODUCT}:{options.tag} is in every node")
            case "run":
                _enter(machine, rest)
            case "test":
                _test(machine, rest)
    except MachineError as why:
        sys.exit(f"cluster {machine.layout.name}: {why}")


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, Sequence[str]]:
    """And the words that are not ours: what `run` runs, what pytest is told."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    up = commands.add_parser("up", help="start what does not run of it")
    up.add_argument("--nodes", type=int, default=NODES)
    up.add_argument("--kwok", action="store_true", help="and what pretends to be more nodes")
    commands.add_parser("down", help="end it, and leave nothing")
    build = commands.add_parser("build", help="only the programs")
    build.add_argument("--kwok", action="store_true")
    load = commands.add_parser("load", help="make our image from this checkout, and load it into every node")
    load.add_argument("--tag", default=images.PRODUCT_TAG)
    for name, words in (
        ("run", "a command in the cluster's network"),
        ("test", f"pytest on the tests here ({SHORT}: without the slow ones)"),
    ):
        commands.add_parser(name, help=words)
    ours = 1 if arguments[:1] in (["run"], ["test"]) else len(arguments)
    return parser.parse_args(arguments[:ours]), arguments[ours:]


def _test(machine: Machine, arguments: Sequence[str]) -> None:
    """What is named, in one go. All: several files at a time, for they wait most of it; then what needs the cluster
    for itself."""
    pytest = [sys.executable, "-m", "pytest"]
    which = "cluster and not slow" if SHORT in arguments else "cluster"
    arguments = [argument for argument in arguments if argument != SHORT]
    if any(Path(argument.partition("::")[0]).exists() for argument in arguments):
        runs = [[*pytest, "-m", which, *arguments]]
    else:
        beside = ["-n", str(AT_ONCE), "--dist", "loadfile", "-m", f"{which} and not alone"]
        runs = [
            [*pytest, *how, "tests/cluster", *arguments] for how in (beside, ["-m", f"{which} and alone"])
        ]
    if os.environ.get("KUBECONFIG"):
        # Somebody's own cluster: no network to enter, nothing to build.
        sys.exit(max(subprocess.run(each, check=False).returncode for each in runs))
    ways = [_entering(machine, each) for each in runs]
    sys.exit(max(subprocess.run(words, env=env, check=False).returncode for words, env in ways))


def _enter(machine: Machine, command: Sequence[str]) -> None:
    """Become the command."""
    words, environment = _entering(machine, command)
    os.execvpe(words[0], words, environment)


def _entering(machine: Machine, command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words and the environment of a command in the cluster's network, with its programs on the PATH."""
    if not machine.is_up():
        raise MachineError("it is not up: make cluster-up")
    environment = {
        **os.environ,
        "PATH": f"{machine.programs}:{os.environ['PATH']}",
        "KUBECONFIG": str(machine.layout.kubeconfig),
        "CLUSTER": machine.layout.name,
        MACHINE_ENV: machine.layout.name,
    }
    return [*map(str, entering(machine.layout.name)), *command], environment


if __name__ == "__main__":
    main()
