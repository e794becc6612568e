"""The generated documents are valid, complete, and true."""

import json
import re

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error, positive_data_acceptance
from support.api_calls import PASSWORD
from support.api_pod import Pod, settings_of

from apipod.resources import OPERATIONS
from chatkernel.asyncapi import client_frames, server_frames
from chatkernel.errors import CATALOGUE, Close
from chatkernel.settings import RateSettings


@pytest.fixture(scope="module")
def openapi(pod):
    return httpx.get(pod.url + "/openapi.json", trust_env=False).json()


@pytest.fixture(scope="module")
def asyncapi(pod):
    return httpx.get(pod.url + "/asyncapi.json", trust_env=False).json()


ROUTES = """
POST /v1/accounts
POST /v1/sessions
POST /v1/sessions/refresh
DELETE /v1/sessions/current
DELETE /v1/sessions
PUT /v1/me/password
GET /v1/me
PATCH /v1/me
GET /v1/me/settings
PUT /v1/me/settings
GET /v1/users/{user_id}
GET /v1/users
GET /v1/me/devices
PATCH /v1/me/devices/{device_id}
DELETE /v1/me/devices/{device_id}
GET /v1/friends
PUT /v1/friends/{user_id}
DELETE /v1/friends/{user_id}
PUT /v1/blocks/{user_id}
DELETE /v1/blocks/{user_id}
POST /v1/seats
POST /v1/channels
GET /v1/channels
GET /v1/channels/{channel_id}
PATCH /v1/channels/{channel_id}
GET /v1/channels/{channel_id}/members
POST /v1/channels/{channel_id}/members
DELETE /v1/channels/{channel_id}/members/{user_id}
PUT /v1/channels/{channel_id}/members/{user_id}/role
PATCH /v1/channels/{channel_id}/me
GET /v1/channels/{channel_id}/receipts
POST /v1/frames
GET /v1/presence
GET /healthz
GET /readyz
GET /statz
"""


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document, reference):
    node = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def test_every_operation_is_in_the_document_and_no_other(openapi):
    there = {(method.upper(), path) for path, item in openapi["paths"].items() for method in item}
    assert there == {(operation.method, operation.path) for operation in OPERATIONS}
    ids = [operation["operationId"] for item in openapi["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_every_route_of_the_brief_is_served(openapi):
    for route in ROUTES.strip().splitlines():
        method, path = route.split()
        assert method.lower() in openapi["paths"][path], route


def test_the_openapi_document_hangs_together(openapi):
    assert openapi["openapi"] == "3.1.0"
    for reference in references(openapi):
        resolve(openapi, reference)
    for path, item in openapi["paths"].items():
        for operation in item.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert operation["responses"] and operation["summary"]
    for schema in openapi["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_asyncapi_document_hangs_together_and_is_complete(asyncapi):
    assert asyncapi["asyncapi"] == "3.0.0" and asyncapi["info"]["title"]
    for reference in references(asyncapi):
        resolve(asyncapi, reference)
    frames = {frame.__name__ for frame in (*client_frames(), *server_frames())}
    assert (
        set(asyncapi["channels"]["socket"]["messages"]) == set(asyncapi["components"]["messages"]) == frames
    )
    actions = {name: operation["action"] for name, operation in asyncapi["operations"].items()}
    assert actions == {
        **{f"receive{frame.__name__}": "receive" for frame in client_frames()},
        **{f"send{frame.__name__}": "send" for frame in server_frames()},
    }
    for operation in asyncapi["operations"].values():
        for reference in [*operation["messages"], *operation.get("reply", {}).get("messages", [])]:
            assert reference["$ref"].startswith("#/channels/socket/messages/")
    assert set(asyncapi["x-errors"]) == {code.value for code in CATALOGUE}
    assert {int(code) for code in asyncapi["x-close-codes"]} == {close.value for close in Close}
    for schema in asyncapi["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_frames_of_the_wire_match_their_schema(asyncapi):
    from chatkernel import protocol

    send = protocol.Send("1", "c", "m", "hello", metadata={"a": 1})
    schema = {**resolve(asyncapi, "#/components/schemas/Send"), "components": asyncapi["components"]}
    jsonschema.validate(json.loads(protocol.encode_json(send)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"type": "send", "id": ""}, schema)


@pytest.fixture(scope="module")
def fuzzed(valkey, tmp_path_factory):
    """A pod of its own for the fuzzer, with a person who logs in again whenever the fuzzer has logged them out."""
    rates = RateSettings(login_attempts=100_000, requests_per_s=10_000, requests_burst=100_000)
    pod = Pod(settings_of(tmp_path_factory.mktemp("fuzz"), valkey.url, rates=rates)).start()
    with httpx.Client(base_url=pod.url, trust_env=False) as client:
        body = {"username": "fuzzer", "password": PASSWORD}
        client.post("/v1/accounts", json=body).raise_for_status()

        def token():
            return client.post("/v1/sessions", json=body).json()["access_token"]

        yield pod, token
    pod.stop()


def test_the_server_does_what_the_document_says_whatever_it_is_sent(fuzzed):
    pod, new_token = fuzzed
    schema = schemathesis.openapi.from_url(pod.url + "/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == len(OPERATIONS)
    checked = 0

    @settings(
        max_examples=150,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def fuzz(data):
        nonlocal checked
        operation = data.draw(st.sampled_from(operations))
        case = data.draw(operation.as_strategy(generation_mode=data.draw(st.sampled_from(GenerationMode))))
        if operation.path == "/v1/me/password":
            case.body = {"current": "wrong wrong", "new": "also wrong"}
        response = case.call(headers={"Authorization": f"Bearer {token()}"})
        # That nothing has a seat (503) is an answer; that we failed (500) is not. And some rules are beyond a
        # schema: what a cursor is, which characters a name may have.
        case.validate_response(response, excluded_checks=[not_a_server_error, positive_data_acceptance])
        assert response.status_code != 500, response.text
        if response.status_code == 401 or operation.path.startswith(("/v1/sessions", "/v1/me/devices")):
            token(renew=True)
        checked += 1

    held = [new_token()]

    def token(renew=False):
        if renew:
            held[0] = new_token()
        return held[0]

    fuzz()
    assert checked > 80
