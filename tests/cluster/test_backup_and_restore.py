"""A backup while people talk, more said after it, and the restore, by the commands of docs/kubernetes/operations.md
and docs/backup.md, on stores that are not the operator's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from support.api_calls import Person, sign_up

from chatoperator.manifests.names import identity
from cluster.kit import pods
from cluster.kit.api import Api
from cluster.kit.chat import Chat, Operator
from cluster.kit.documents import BACKUP, OPERATIONS, Section, Shell
from cluster.kit.kubectl import Kubectl
from cluster.kit.outside import PASSWORD, Outside, url_from
from cluster.kit.talk import talking

OF_THE_RESOURCE = Section(OPERATIONS, "Back up, restore").commands
DUMP, CREATE, RESTORE, *_ = Section(BACKUP, "PostgreSQL").commands
EMPTY = r"redis-cli --scan --pattern 'PREFIX:CLUSTER:*' | xargs -r redis-cli unlink"
LOGIN = {"PGHOST": "127.0.0.1", "PGUSER": "chat", "PGPASSWORD": PASSWORD, "REDISCLI_AUTH": PASSWORD}
RESTORED = "chat_restored"


def typed_in(kubectl: Kubectl, pod: str, command: str) -> str:
    """On the machine of a server, in a folder that can be written to."""
    environment = [f"{name}={value}" for name, value in LOGIN.items()]
    script = f"set -eu; cd /tmp; {command}"
    return kubectl("exec", pod, "--", "env", *environment, "sh", "-c", script)


async def texts(person: Person, channel_id: str) -> list[str]:
    """Of a channel's messages, as somebody reads them who has kept nothing."""
    answer = await person.frame("history", channel_id=channel_id, limit=100)
    events = [item["event"] for item in answer["frames"][0]["items"]]
    return [event["text"] for event in events if event.get("text") is not None]


async def say(person: Person, channel_id: str, *words: str) -> None:
    for word in words:
        await person.frame("send", channel_id=channel_id, text=word, client_msg_id=f"m-{word}")


def way_in(kubectl: Kubectl, chat: Chat) -> str:
    """An address that stays, as a cluster's host does: its own Service goes with it."""
    labels = {"chatcluster.dev/cluster": chat.name, "app.kubernetes.io/component": "api"}
    kubectl.apply(pods.service("way-in", labels, 8080))
    return f"http://{kubectl.get('service', 'way-in')['spec']['clusterIP']}:8080"


@pytest.mark.slow
async def test_what_was_backed_up_is_there_again_and_nobody_has_to_log_in(
    api: Api, operator: Operator, tmp_path: Path
) -> None:
    kubectl, shell = operator.kubectl, Shell(tmp_path, operator.kubectl.namespace)
    chat, outside = Chat(api, kubectl), Outside(api, kubectl)
    save_resource, save_keys, delete, wait_for_pods, apply = OF_THE_RESOURCE
    outside.services("redis", "postgresql")
    outside.secret(outside.urls())
    await outside.start("redis", "postgresql")
    chat.apply(redis=url_from("redis"), postgresql=url_from("postgresql"))
    await chat.settled(2)
    url = way_in(kubectl, chat)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as http:
        ann, bob = await sign_up(http, "ann"), await sign_up(http, "bob")
        group = {"kind": "group", "name": "Team", "members": [bob.id]}
        channel_id = (await ann.ok("POST", "/v1/channels", group))["channel_id"]
        await say(ann, channel_id, "one", "two")

        async with talking(url, people=6, channels=3) as talk:
            await talk.goes_on(20)
            await asyncio.to_thread(shell, f"{save_resource}\n{save_keys}")
            await asyncio.to_thread(typed_in, kubectl, "postgresql", DUMP.replace("@db1/", "@127.0.0.1/"))
            await talk.goes_on(20)
        await say(bob, channel_id, "lost")
        carol = await sign_up(http, "carol")

        await asyncio.to_thread(shell, f"{delete}\n{wait_for_pods}")
        assert EMPTY in BACKUP.read_text()
        emptied = EMPTY.replace("PREFIX", "chat").replace("CLUSTER", identity(chat.namespace, chat.name))
        typed_in(kubectl, "redis", emptied)
        assert typed_in(kubectl, "redis", "redis-cli dbsize").strip() == "0"
        typed_in(kubectl, "postgresql", f"{CREATE}\n{RESTORE}")
        outside.secret(outside.urls(database=RESTORED))
        shell(apply)
        await chat.settled(2)

        # By the tokens of before.
        assert await texts(ann, channel_id) == ["one", "two"]
        assert (await carol.ask("GET", "/v1/channels")).status_code == 401
        await say(bob, channel_id, "three")
        assert await texts(ann, channel_id) == ["one", "two", "three"]
        async with talking(url, people=6, channels=3) as talk:
            await talk.goes_on(20)
