"""A drained node takes one pod at a time, and never waits for ever."""

from __future__ import annotations

from support.manifest_samples import FULL, all_objects, cluster_of, of_kind


def test_one_chat_pod_and_one_api_pod_at_a_time() -> None:
    found = of_kind(all_objects(cluster_of(FULL)), "PodDisruptionBudget")
    assert set(found) == {"talk-chat", "talk-api"}
    for budget in found.values():
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
