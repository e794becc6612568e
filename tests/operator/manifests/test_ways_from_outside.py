"""Clients from outside reach the API, and each chat pod by a path of its own."""

from __future__ import annotations

from support.manifest_samples import FULL, GATEWAY, SMALL, all_objects, chat_pod, cluster_of, of_kind

from chatoperator.manifests import chatpod


def test_without_exposure_there_is_no_way_in() -> None:
    assert chatpod.pod_exposure(cluster_of(SMALL), "p", "u") == []
    objects = all_objects(cluster_of(SMALL))
    assert not of_kind(objects, "Ingress")
    assert not of_kind(objects, "HTTPRoute")


def test_an_ingress_for_the_api_and_one_for_each_pod() -> None:
    cluster = cluster_of(FULL)
    name = chat_pod(cluster)["metadata"]["name"]
    found = of_kind(all_objects(cluster), "Ingress")
    assert set(found) == {"talk-api", name}
    paths = {key: one["spec"]["rules"][0]["http"]["paths"][0] for key, one in found.items()}
    assert paths["talk-api"] | {"backend": 0} == {"path": "/", "pathType": "Prefix", "backend": 0}
    assert paths[name] | {"backend": 0} == {
        "path": f"/pods/{name}/v1/socket",
        "pathType": "Exact",
        "backend": 0,
    }, "the socket, and none of the pod's other paths"
    for one in found.values():
        assert one["spec"]["ingressClassName"] == "nginx"
        assert one["spec"]["rules"][0]["host"] == "chat.example.com"
        assert one["spec"]["tls"] == [{"hosts": ["chat.example.com"], "secretName": "chat-tls"}]
        assert one["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600"}


def test_tls_may_be_the_controllers_own() -> None:
    cluster = cluster_of({**SMALL, "exposure": {"host": "h", "tls": {}, "ingress": {}}})
    (ingress,) = of_kind(all_objects(cluster), "Ingress").keys() - {chat_pod(cluster)["metadata"]["name"]}
    spec = of_kind(all_objects(cluster), "Ingress")[ingress]["spec"]
    assert spec["tls"] == [{"hosts": ["h"]}]
    assert "ingressClassName" not in spec


def test_a_gateway_gets_routes_instead() -> None:
    cluster = cluster_of(GATEWAY)
    name = chat_pod(cluster)["metadata"]["name"]
    objects = all_objects(cluster)
    assert not of_kind(objects, "Ingress")
    found = of_kind(objects, "HTTPRoute")
    assert set(found) == {"talk-api", name}
    assert found[name]["spec"] == {
        "parentRefs": [
            {
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                "name": "web",
                "namespace": "gateways",
                "sectionName": "https",
            }
        ],
        "hostnames": ["chat.example.com"],
        "rules": [
            {
                "matches": [{"path": {"type": "Exact", "value": f"/pods/{name}/v1/socket"}}],
                "backendRefs": [{"group": "", "kind": "Service", "name": name, "port": 8080, "weight": 1}],
            }
        ],
    }


def test_a_pod_that_drains_is_reached_by_its_own_service() -> None:
    cluster = cluster_of(FULL)
    name = chat_pod(cluster)["metadata"]["name"]
    service = of_kind(all_objects(cluster), "Service")[name]
    assert service["spec"]["publishNotReadyAddresses"] is True
