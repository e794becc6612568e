"""A ChatCluster that is deleted takes everything with it but what it is to keep."""

from __future__ import annotations

from cluster.kit.api import Api, eventually
from cluster.kit.chat import Chat, operating
from cluster.kit.kubectl import Helm, Kubectl


async def collected(chat: Chat, but: set[str]) -> None:
    async def gone() -> bool:
        nonlocal there
        there = set(chat.objects())
        return there == but

    there: set[str] = set()
    try:
        await eventually(gone, 90, "everything is collected")
    except AssertionError as late:
        raise AssertionError(
            f"there was still {sorted(there - but)}, and {sorted(but - there)} was not"
        ) from late


async def test_everything_goes_but_the_keys(api: Api, helm: Helm, kubectl: Kubectl) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl):
        chat.apply(exposure={"host": "chat.example.com", "ingress": {}})
        await chat.settled(2)
        kubectl("delete", "chat", "talk", "--timeout=10s")

        await collected(chat, {"Secret/talk-keys"})


async def test_the_keys_as_well_if_asked_for_and_without_an_operator(
    api: Api, helm: Helm, kubectl: Kubectl
) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl):
        chat.apply(deletionPolicy="Delete")
        await chat.settled(2)
    kubectl("delete", "chat", "talk", "--timeout=10s")

    await collected(chat, set())
