"""A drained node takes one pod at a time, and never waits for ever."""

from __future__ import annotations

import msgspec
from support.manifest_samples import FULL, INPUTS, SMALL, all_objects, cluster_of, of_kind

from chatoperator.manifests import disruption


def test_one_chat_pod_and_one_api_pod_at_a_time() -> None:
    found = of_kind(all_objects(cluster_of(SMALL)), "PodDisruptionBudget")
    assert set(found) == {"talk-chat", "talk-api"}
    for budget in found.values():
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_where_connections_decide_the_number_it_is_told_as_kubernetes_cannot_ask_for_it() -> None:
    for wanted, at_least in ((1, 0), (2, 1), (5, 4)):
        inputs = msgspec.structs.replace(INPUTS, chat_pods=wanted)
        chat, api = disruption.budgets(cluster_of(FULL), inputs)
        assert chat["spec"]["minAvailable"] == at_least
        assert "maxUnavailable" not in chat["spec"]
        assert api["spec"]["maxUnavailable"] == 1
