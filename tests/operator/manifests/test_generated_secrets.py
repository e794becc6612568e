"""Secrets that are generated: made once, and kept or collected as the resource says."""

from __future__ import annotations

import base64
import json

import msgspec
from support.manifest_samples import FULL, INPUTS, MONGO, SMALL, cluster_of, generated_secrets

from chatkernel.redis_url import parse_redis_url
from chatkernel.settings import SecretFile
from chatoperator.manifests import keys


def data(secret: dict[str, dict[str, str]]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def test_keys_are_what_services_read() -> None:
    (secret,) = generated_secrets(cluster_of(FULL))
    assert secret["metadata"]["name"] == "talk-keys"
    read = msgspec.json.decode(data(secret)["keys.json"], type=SecretFile)
    assert read.signing_keys[0].kid == "k-1"


def test_what_is_run_for_trying_out_has_a_password_and_urls() -> None:
    for spec in (SMALL, MONGO):
        made = data(generated_secrets(cluster_of(spec))[1])
        assert made == {
            "password": "pass-word_1",
            "redis-url": "redis://:pass-word_1@talk-redis.apps.svc:6379/0",
            "postgresql-url": "postgresql://chat:pass-word_1@talk-postgresql.apps.svc:5432/chat",
            "mongodb-url": "mongodb://talk-mongodb.apps.svc:27017/chat",
        }, "the same for every choice, so that it fits after a change of the resource"
        parse_redis_url(made["redis-url"])


def test_secrets_are_applied_without_data_so_that_what_is_in_them_stays() -> None:
    for name in ("talk-keys", "talk-development"):
        applied = keys.ownership(cluster_of(SMALL), INPUTS, name, "uid-1")
        assert set(applied) == {"apiVersion", "kind", "metadata"}
        assert applied["metadata"]["name"] == name
        assert applied["metadata"]["uid"] == "uid-1", "where it is gone the API server makes none"


def test_the_keys_outlive_the_cluster_unless_it_says_otherwise() -> None:
    def owned(spec: dict[str, object], name: str) -> bool:
        return "ownerReferences" in keys.ownership(cluster_of(spec), INPUTS, name, "uid-1")["metadata"]

    assert not owned(SMALL, "talk-keys")
    assert not owned({**SMALL, "deletionPolicy": "Keep"}, "talk-keys")
    assert owned({**SMALL, "deletionPolicy": "Delete"}, "talk-keys")
    assert owned(SMALL, "talk-development"), "a password is of no use without its server"


def test_no_object_but_the_secrets_holds_a_secret() -> None:
    from support.manifest_samples import all_objects

    for one in all_objects(cluster_of(SMALL)):
        if one["kind"] != "Secret":
            assert "pass-word_1" not in json.dumps(one)
