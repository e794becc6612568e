"""The signing keys are rotated by the commands of docs/kubernetes/operations.md while people talk. They have no
password at hand: whoever loses their tokens is out."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path

import pytest

from cluster.kit.api import Api, eventually
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.documents import OPERATIONS, Section, Shell
from cluster.kit.kubectl import Kubectl
from cluster.kit.talk import Talk, talking

DOCUMENT = Section(OPERATIONS, "Rotate the signing keys")
TOKEN_TTL_S = 32.0
"""A client renews its token 30 s before the end: these are good for two."""
PEOPLE, CHANNELS = 6, 3


def signing_keys(kubectl: Kubectl) -> list[str]:
    """Their ids, in their order."""
    held = kubectl.get("secret", "talk-keys")["data"]["keys.json"]
    return [key["kid"] for key in json.loads(base64.b64decode(held))["signing_keys"]]


def forget_passwords(talk: Talk) -> None:
    """Apps keep none."""
    for device in talk.devices:
        device.client.api.credentials = None


async def all_are_logged_in(talk: Talk, kid: str) -> None:
    """With tokens of that key, which a client that needs one gets by itself."""

    async def signed() -> bool:
        tokens = [await device.client.api.access_token() for device in talk.devices]
        headers = [base64.urlsafe_b64decode(token.partition(".")[0] + "==") for token in tokens]
        return all(json.loads(header)["kid"] == kid for header in headers)

    await eventually(signed, TOKEN_TTL_S * SLOW, f"all tokens are signed by {kid}")


@pytest.mark.slow
async def test_in_three_steps_nobody_is_logged_out_and_a_stolen_key_is_gone_at_once(
    api: Api, operator: Operator, tmp_path: Path
) -> None:
    kubectl, shell = operator.kubectl, Shell(tmp_path, operator.kubectl.namespace)
    chat = Chat(api, kubectl)
    chat.apply(
        chatPods={"replicas": 1, "connectionsPerPod": 100},
        auth={"accessTokenTtlSeconds": TOKEN_TTL_S},
        drain={"deadlineSeconds": 10},
    )
    (before,) = await chat.settled(1)
    (old,) = signing_keys(kubectl)
    *steps, stolen = DOCUMENT.commands
    added, first, retired = steps

    async def typed(command: str) -> None:
        await asyncio.to_thread(shell, DOCUMENT.program + command)

    async with talking(chat.url, people=PEOPLE, channels=CHANNELS) as talk:
        forget_passwords(talk)
        await typed(added)
        assert signing_keys(kubectl)[0] == old
        (_, new) = signing_keys(kubectl)
        await typed(first)
        assert signing_keys(kubectl) == [new, old]
        began = time.monotonic()
        await all_are_logged_in(talk, new)
        assert time.monotonic() - began < TOKEN_TTL_S
        await typed(retired)
        assert signing_keys(kubectl) == [new]
        await chat.settled(1)
        # One move for each step, and no other reconnect.
        assert [device.client.moves for device in talk.devices] == [len(steps)] * PEOPLE
        assert not any(device.recorder.losses for device in talk.devices)
        await talk.goes_on(20)

        await typed(stolen)
        (newest,) = signing_keys(kubectl)
        assert newest != new
        assert before not in await chat.settled(1)
        await all_are_logged_in(talk, newest)
        await talk.goes_on(20)
        assert not any(device.recorder.losses for device in talk.devices)
