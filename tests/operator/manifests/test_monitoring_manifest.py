"""Prometheus' operator finds the pods of a cluster that asks for it, each once."""

from __future__ import annotations

from support.manifest_samples import FULL, SMALL, all_objects, cluster_of, of_kind


def test_a_service_monitor_finds_every_kind_of_pod_once() -> None:
    objects = all_objects(cluster_of(FULL))
    (monitor,) = of_kind(objects, "ServiceMonitor").values()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [
        one for one in of_kind(objects, "Service").values() if wanted <= one["metadata"]["labels"].items()
    ]
    components = [one["metadata"]["labels"]["app.kubernetes.io/component"] for one in found]
    assert sorted(components) == ["api", "chat", "probe", "worker"], "and not the Services of single pods"
    for service in found:
        assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_nothing_is_made_for_it_unless_asked() -> None:
    objects = all_objects(cluster_of(SMALL))
    assert not of_kind(objects, "ServiceMonitor")
    assert set(of_kind(objects, "Service")) == {"talk-api", "talk-redis", "talk-postgresql"}
