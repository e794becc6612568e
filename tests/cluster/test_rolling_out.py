"""A new version, a bad one, and changes that need no new pod."""

from __future__ import annotations

from cluster.kit.api import Api, is_ready
from cluster.kit.chat import Chat, operating
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.talk import talking


async def test_a_new_revision_replaces_one_pod_after_the_other(
    api: Api, helm: Helm, kubectl: Kubectl
) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl):
        chat.apply()
        before = await chat.settled(2)
        async with talking(chat.url) as talk:
            chat.apply(chatPods={"replicas": 2, "connectionsPerPod": 101})
            after = await chat.settled(2, 180)
            await talk.goes_on(20)
            assert not any(device.recorder.losses for device in talk.devices)
        assert not set(before) & set(after)
        revisions = (
            await chat.until(lambda found: len(found["status"]["revisions"]) == 1, 60, "one revision")
        )["status"]["revisions"]
        assert revisions[0]["current"]


async def test_a_bad_image_takes_no_good_pod_away_and_is_undone(
    api: Api, helm: Helm, kubectl: Kubectl
) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl):
        chat.apply(rollout={"readyDeadlineSeconds": 20})
        before = await chat.settled(2)
        kubectl("patch", "chat", "talk", "--type=merge", '-p={"spec": {"image": "localhost/no-such:1"}}')
        degraded = await chat.reason("Degraded", "ImageUnavailable")
        assert "localhost/no-such:1" in degraded["message"]
        await chat.until(lambda found: found["status"].get("undone"), 60, "undone")
        pods = await chat.chat_pods_until(lambda found: set(found) == set(before), 60, "as before")
        assert all(is_ready(pod) for pod in pods.values())


async def test_limits_and_rates_make_no_new_pods(api: Api, helm: Helm, kubectl: Kubectl) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl):
        chat.apply()
        before = await chat.settled(2)
        chat.apply(limits={"textMaxBytes": 1024}, drain={"ratePerSecond": 7})
        await chat.chat_pods_until(
            lambda pods: (
                len({_live(pod) for pod in pods.values()} - {_live(pod) for pod in before.values()}) == 1
            ),
            30,
            "pods are told to look",
        )
        assert set(await chat.settled(2)) == set(before)


def _live(pod: dict[str, object]) -> str:
    meta = pod["metadata"]
    assert isinstance(meta, dict)
    return str(meta["annotations"]["chatcluster.dev/live"])
