"""A ChatCluster that is deleted, and one of its name that is made in the same moment: the new one is another one, and
takes over what `deletionPolicy` says, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from chatclient.drill.crowd import read_log
from chatclient.http import Api as ChatApi
from chatclient.http import Tokens, new_http
from chatkernel.protocol import Send
from chatkernel.storage.model import ChannelState
from cluster.kit.api import Api, Object, eventually
from cluster.kit.chat import SLOW, Chat, Operator, resource
from cluster.kit.outside import Outside, url_from
from cluster.kit.talk import talking

KEYS, REDIS = "Secret/talk-keys", "Secret/talk-development"
PASSWORD = "one that is long enough"
GOOD, NOT_OURS = 200, 401
AGAIN_S = 60.0
"""As the first time, and while all pods of the old one end on the same machine."""
COLLECTED_S = 60.0
"""The last of the old are its chat pods, which may take their time to drain."""


async def made_again(api: Api, chat: Chat, **spec: Any) -> dict[str, Object]:
    """What there was of the old one; the new one is available, and nothing is left of the other."""
    old = chat.objects()
    await api.request("DELETE", chat.path)
    new = await api.apply(chat.path, resource(chat.name, **spec), "kubectl")
    await chat.available(AGAIN_S)
    pods = await chat.settled(2)
    assert not pods.keys() & {name.rpartition("/")[2] for name in old}
    stays = {KEYS} if spec.get("deletionPolicy") != "Delete" else set()
    left: set[str] = set()

    async def only_new() -> bool:
        nonlocal left
        there = {name: uid(one) for name, one in chat.objects().items()}
        left = {name for name in old if there.get(name) == uid(old[name])} - stays
        return not left

    try:
        await eventually(only_new, COLLECTED_S * SLOW, "nothing of the old one is there")
    except AssertionError as late:
        raise AssertionError(f"left of the old one, or taken over: {sorted(left)}") from late
    owners = {owner["uid"] for one in chat.objects().values() for owner in owned_by(one, "ChatCluster")}
    assert owners == {uid(new)}
    return old


def uid(one: Object) -> str:
    return str(one["metadata"]["uid"])


def owned_by(one: Object, kind: str) -> list[Object]:
    return [owner for owner in one["metadata"].get("ownerReferences", []) if owner["kind"] == kind]


def data_of(chat: Chat, secret: str) -> Object:
    return dict(chat.objects()[secret]["data"])


async def owned(api: Api, chat: Chat) -> None:
    """The keys go with the cluster from now on."""
    path = f"/api/v1/namespaces/{chat.namespace}/secrets"
    name = KEYS.rpartition("/")[2]
    await api.until(
        path, lambda found: owned_by(found[name], "ChatCluster"), 10.0 * SLOW, "they have an owner"
    )


async def say_something(url: str) -> tuple[Tokens, str]:
    """Who did, and in which channel."""
    ann, bob = ChatApi(url), ChatApi(url)
    try:
        for one, name in ((ann, "ann"), (bob, "bob")):
            await one.sign_up(name, PASSWORD)
        assert ann.tokens is not None
        assert bob.tokens is not None
        body = {"kind": "direct", "user_id": bob.tokens.user_id}
        channel = await ann.call("POST", "/v1/channels", body, kind=ChannelState)
        await ann.frames(Send("1", channel.channel_id, "1", "before"))
        return ann.tokens, channel.channel_id
    finally:
        await ann.close()
        await bob.close()


async def asked_with(url: str, tokens: Tokens) -> int:
    """The status of an answer: whether that token is one of this cluster."""
    async with new_http() as http:
        headers = {"authorization": f"Bearer {tokens.access_token}"}
        return (await http.get(f"{url}/v1/me/devices", headers=headers)).status_code


async def texts(url: str, tokens: Tokens, channel: str) -> list[str]:
    """As a device reads them that was there before."""
    one = ChatApi(url, tokens=tokens)
    try:
        return [event.text for event in await read_log(one, channel) if event.text]
    finally:
        await one.close()


@pytest.mark.slow
async def test_it_takes_over_what_the_policy_says_and_nothing_else(api: Api, operator: Operator) -> None:
    """Messages are in a store of the test's own, Redis is one that the operator runs."""
    chat, outside = Chat(api, operator.kubectl), Outside(api, operator.kubectl)
    outside.secret(outside.urls())
    outside.services("postgresql")
    await outside.start("postgresql")
    store = {"postgresql": url_from("postgresql")}
    chat.apply(**store)
    await chat.settled(2)
    ann, channel = await say_something(chat.url)

    old = await made_again(api, chat, **store)

    assert data_of(chat, KEYS) == old[KEYS]["data"]
    assert data_of(chat, REDIS) != old[REDIS]["data"], "it went with its Redis"
    assert await asked_with(chat.url, ann) == GOOD
    assert await texts(chat.url, ann, channel) == ["before"]
    async with talking(chat.url, people=4, channels=2) as talk:
        await talk.goes_on(20)

    chat.apply(**store, deletionPolicy="Delete")
    await owned(api, chat)
    old = await made_again(api, chat, **store, deletionPolicy="Delete")

    assert data_of(chat, KEYS) != old[KEYS]["data"]
    assert await asked_with(chat.url, ann) == NOT_OURS
    assert await texts(chat.url, ann, channel) == ["before"], (
        "devices are in the store, and it is never emptied"
    )
