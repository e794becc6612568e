"""A new version, a bad one, and changes that need no new pod."""

from __future__ import annotations

from chatoperator.manifests.names import DRAIN
from cluster.kit.api import Api, Object, Objects, is_ready
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
            was = talk.moves()
            chat.apply(chatPods={"replicas": 2, "connectionsPerPod": 101})
            seen: list[tuple[int, int, int]] = []

            def no_old_ones(pods: Objects) -> bool:
                staying = [name for name, pod in pods.items() if is_ready(pod) and not drains(pod)]
                draining = [name for name, pod in pods.items() if is_ready(pod) and drains(pod)]
                fresh = pods.keys() - before.keys()
                seen.append((len(staying), len(draining), len(fresh)))
                return not before.keys() & pods.keys()

            await chat.chat_pods_until(no_old_ones, 180, "all are new")
            assert min(staying for staying, _, _ in seen) == 2, "a new one first"
            assert max(draining for _, draining, _ in seen) == 1
            assert sorted({fresh for _, _, fresh in seen}) == [0, 1, 2]
            after = await chat.settled(2)
            await talk.goes_on(20)
            assert max(talk.moved(was)) <= 1
            assert not talk.losses()
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
        await chat.reason("Progressing", "RolloutUndone")
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


def drains(pod: Object) -> bool:
    return DRAIN in pod["metadata"].get("annotations", {})


def _live(pod: dict[str, object]) -> str:
    meta = pod["metadata"]
    assert isinstance(meta, dict)
    return str(meta["annotations"]["chatcluster.dev/live"])
