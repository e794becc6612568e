"""One round of thought: from what is wanted, seen and remembered, to what is to be done and remembered. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from chatoperator import autoscale, rollout
from chatoperator.autoscale import Decision, ScalingMemory
from chatoperator.model import Action, Observed, PodKind
from chatoperator.plan import plan
from chatoperator.rollout import RolloutMemory
from chatoperator.spec import Spec


class Memory(Struct, frozen=True):
    """What a round leaves to the next."""

    scaling: ScalingMemory = ScalingMemory()
    rollout: RolloutMemory = RolloutMemory()


class Round(Struct, frozen=True):
    observed: Observed
    """With what was decided of numbers and revisions."""
    decision: Decision
    memory: Memory
    actions: tuple[Action, ...]


def think(
    spec: Spec, observed: Observed, memory: Memory, now: float, kinds: tuple[PodKind, ...] = tuple(PodKind)
) -> Round:
    """`observed` as `History.look` gives it, with the delivery."""
    decision = autoscale.decide(spec, observed, memory.scaling, now)
    observed = msgspec.structs.replace(observed, desired=decision.replicas)
    judged = rollout.judge(spec, observed, memory.rollout, now)
    undone = frozenset({judged.undone.revision}) if judged.undone else frozenset[str]()
    observed = msgspec.structs.replace(observed, undone=undone, last_good=judged.last_good)
    actions = tuple(plan(spec, observed, now, kinds))
    return Round(observed, decision, Memory(decision.memory, judged), actions)
