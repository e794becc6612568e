"""The client against scripted pods over real sockets: what it does when things go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from fakeserver import FakeCluster

from chatclient.client import ChatClient
from chatclient.errors import Closed
from chatclient.http import Credentials, Tokens
from chatclient.listener import Listener, Up
from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Error, Event, Hello, History, Resync, Send, Sync

ROOM = "r_g1"
TOKENS = Tokens("u_me", "d_me", "access", "refresh", 4_000_000_000_000)


class Recorder(Listener):
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.states: list[object] = []

    def on_event(self, event: Event, live: bool) -> None:
        self.events.append(event)

    def on_state(self, change: object) -> None:
        self.states.append(change)

    @property
    def texts(self) -> list[str | None]:
        return [event.text for event in self.events]


def client_of(fake: FakeCluster, recorder: Recorder, **options: object) -> ChatClient:
    return ChatClient(
        fake.url,
        tokens=TOKENS,
        listener=recorder,
        rng=Random(7),
        **options,  # type: ignore[arg-type]
    )


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("msgpack", [False, True])
async def test_a_message_is_acked_and_comes_back_as_an_event(fake: FakeCluster, msgpack: bool) -> None:
    await fake.say(ROOM, "before")
    recorder = Recorder()
    async with client_of(fake, recorder, msgpack=msgpack) as client:
        await client.connect(5)
        assert client.cursors == {ROOM: 1}
        ack = await client.send(ROOM, "hello")
        assert (ack.seq, ack.duplicate) == (2, False)
        await until(lambda: recorder.texts == ["hello"])


async def test_after_a_pod_dies_it_comes_back_elsewhere_and_has_missed_nothing(fake: FakeCluster) -> None:
    await fake.say(ROOM, "0")
    recorder = Recorder()
    async with client_of(fake, recorder) as client:
        await client.connect(5)
        fake.pods["chat-1"].kill()
        await fake.say(ROOM, "1")
        await until(lambda: client.pod == "chat-2" and recorder.texts == ["1"])
        await fake.say(ROOM, "2")
        await until(lambda: recorder.texts == ["1", "2"])
        assert fake.seat_requests[-1] == {"exclude": ["chat-1"]}
        up = recorder.states[-1]
        assert isinstance(up, Up) and up.from_pod == "chat-1" and not up.moved and up.caught_up == 1
        assert (client.moves, client.reconnects) == (0, 1)


async def test_an_unacked_send_is_sent_again_with_the_same_key_after_a_reconnect(
    fake: FakeCluster,
) -> None:
    await fake.say(ROOM, "0")
    first, recorder = fake.pods["chat-1"], Recorder()

    def die_after_storing(_socket: object, frame: object) -> bool:
        if isinstance(frame, Send):
            fake.log.add(ROOM, "u_me", frame.client_msg_id, frame.text)
            first.kill()
            return True
        return False

    first.intercept = die_after_storing
    async with client_of(fake, recorder) as client:
        await client.connect(5)
        acks = await asyncio.gather(client.send(ROOM, "a"), client.send(ROOM, "b"), client.send(ROOM, "c"))
        assert [ack.seq for ack in acks] == [2, 3, 4]
        assert acks[0].duplicate
        await until(lambda: recorder.texts == ["a", "b", "c"])


async def test_a_retryable_error_is_tried_again_and_a_final_one_is_raised(fake: FakeCluster) -> None:
    await fake.say(ROOM, "0")
    pod = fake.pods["chat-1"]
    refusals = [
        Error("", Code.STORAGE_UNAVAILABLE, "later", True, retry_after_ms=10),
        Error("", Code.BUSY, "later", True),
    ]

    def refuse(socket: object, frame: object) -> bool:
        if isinstance(frame, Send) and frame.text == "bad":
            answer = Error(frame.id, Code.CHANNEL_NOT_FOUND, "no", False)
        elif isinstance(frame, Send) and refusals:
            last = refusals.pop()
            answer = Error(frame.id, last.code, "later", True, retry_after_ms=last.retry_after_ms)
        else:
            return False
        asyncio.get_running_loop().create_task(pod.put(socket, answer))  # type: ignore[arg-type]
        return True

    pod.intercept = refuse
    async with client_of(fake, Recorder()) as client:
        await client.connect(5)
        acks = await asyncio.gather(client.send(ROOM, "1"), client.send(ROOM, "2"))
        assert [ack.seq for ack in acks] == [2, 3], "the second waits for the first"
        with pytest.raises(ChatError) as refused:
            await client.send(ROOM, "bad")
        assert refused.value.code is Code.CHANNEL_NOT_FOUND


async def test_an_overdue_ack_is_asked_for_again_on_the_same_socket(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatclient.engine.ACK_TIMEOUT_S", 0.2)
    monkeypatch.setattr("chatclient.engine.SUSPICION_S", 0.1)
    await fake.say(ROOM, "0")
    pod, dropped = fake.pods["chat-1"], []

    def drop_first(_socket: object, frame: object) -> bool:
        if isinstance(frame, Send) and not dropped:
            dropped.append(frame)
            return True
        return False

    pod.intercept = drop_first
    async with client_of(fake, Recorder()) as client:
        await client.connect(5)
        ack = await client.send(ROOM, "once")
        assert ack.seq == 2
        assert client.reconnects == 0


async def test_it_moves_before_the_old_socket_closes_and_no_send_fails(fake: FakeCluster) -> None:
    await fake.say(ROOM, "0")
    recorder = Recorder()
    async with client_of(fake, recorder) as client:
        await client.connect(5)
        sends = [asyncio.ensure_future(client.send(ROOM, f"{n}")) for n in range(20)]
        await fake.migrate("chat-1")
        await until(lambda: client.pod == "chat-2")
        sends += [asyncio.ensure_future(client.send(ROOM, f"{n}")) for n in range(20, 30)]
        acks = await asyncio.gather(*sends)
        assert [ack.seq for ack in acks] == list(range(2, 32))
        await until(lambda: not fake.pods["chat-1"].sockets)
        await until(lambda: recorder.texts == [f"{n}" for n in range(30)])
        assert (client.moves, client.reconnects) == (1, 0)
        assert [type(state).__name__ for state in recorder.states] == ["Up", "Up"]


async def test_a_lost_event_is_found_by_the_next_one(fake: FakeCluster) -> None:
    await fake.say(ROOM, "0")
    recorder = Recorder()
    async with client_of(fake, recorder) as client:
        await client.connect(5)
        await fake.say(ROOM, "1", publish=False)
        await fake.say(ROOM, "2")
        await until(lambda: recorder.texts == ["1", "2"])
        syncs = [frame for frame in fake.pods["chat-1"].received if isinstance(frame, Sync)]
        assert [frame.cursors for frame in syncs] == [{ROOM: 1}]


async def test_a_lost_event_is_found_by_the_heartbeat(fake: FakeCluster) -> None:
    await fake.say(ROOM, "0")
    recorder = Recorder()
    async with client_of(fake, recorder) as client:
        await client.connect(5)
        event = await fake.say(ROOM, "1", publish=False)
        for live in fake.pods["chat-1"].sockets.values():
            live[ROOM] = event.seq  # the pod believes that it sent it
        await until(lambda: recorder.texts == ["1"], 2)


async def test_a_resync_asks_for_the_channels_named(fake: FakeCluster) -> None:
    await fake.say(ROOM, "0")
    await fake.say("r_g2", "0")
    pod, recorder = fake.pods["chat-1"], Recorder()
    async with client_of(fake, recorder) as client:
        await client.connect(5)
        await fake.say(ROOM, "1", publish=False)
        for socket in pod.sockets:
            await pod.put(socket, Resync([ROOM]))
        await until(lambda: recorder.texts == ["1"])
        assert next(frame.cursors for frame in pod.received if isinstance(frame, Sync)) == {ROOM: 1}


async def test_a_pod_that_does_not_answer_its_heartbeat_is_left(fake: FakeCluster) -> None:
    recorder = Recorder()
    async with client_of(fake, recorder) as client:
        await client.connect(5)
        fake.pods["chat-1"].deaf = True
        await until(lambda: client.pod == "chat-2")
        assert client.reconnects == 1


async def test_a_seat_that_cannot_be_taken_gives_way_to_the_alternative(fake: FakeCluster) -> None:
    fake.pods["chat-1"].refuse = Code.DRAINING
    async with client_of(fake, Recorder()) as client:
        await client.connect(5)
        assert client.pod == "chat-2"


async def test_discovery_is_asked_until_it_answers(fake: FakeCluster) -> None:
    fake.api_down = True
    async with client_of(fake, Recorder()) as client:
        task = asyncio.ensure_future(client.connect(5))
        await until(lambda: len(fake.seat_requests) >= 2)
        fake.api_down = False
        await task


async def test_a_revoked_device_does_not_come_back(fake: FakeCluster) -> None:
    recorder = Recorder()
    async with client_of(fake, recorder) as client:
        await client.connect(5)
        for socket in list(fake.pods["chat-1"].sockets):
            await socket.close(4003)
        await until(lambda: bool(recorder.states) and type(recorder.states[-1]).__name__ == "Ended")
        with pytest.raises(Closed):
            await client.send(ROOM, "too late")
        assert len(fake.seat_requests) == 1


async def test_a_reused_refresh_token_ends_in_a_log_in_with_the_password(fake: FakeCluster) -> None:
    old = Tokens("u_me", "d_me", "old", "reused", 0)
    credentials = Credentials("me", "secret")
    async with ChatClient(fake.url, tokens=old, credentials=credentials, rng=Random(1)) as client:
        await client.connect(5)
        assert fake.logins == 1


async def test_cursors_and_unacked_sends_survive_a_restart(fake: FakeCluster, tmp_path: Path) -> None:
    await fake.say(ROOM, "0")
    cache = tmp_path / "device.db"
    pod = fake.pods["chat-1"]
    pod.intercept = lambda _socket, frame: isinstance(frame, Send)
    async with client_of(fake, Recorder(), cache_path=cache) as client:
        await client.connect(5)
        unsent = asyncio.ensure_future(client.send(ROOM, "mine"))
        await until(lambda: any(isinstance(frame, Send) for frame in pod.received))
    with pytest.raises(Closed):
        await unsent
    pod.intercept = None
    await fake.say(ROOM, "while away")
    recorder = Recorder()
    async with client_of(fake, recorder, cache_path=cache) as client:
        await client.connect(5)
        await until(lambda: recorder.texts == ["while away", "mine"])
        hello = [frame for frame in pod.received if isinstance(frame, Hello)][-1]
        assert hello.cursors == {ROOM: 1}


async def test_history_that_was_seen_is_not_fetched_again(fake: FakeCluster, tmp_path: Path) -> None:
    for n in range(1, 31):
        await fake.say(ROOM, f"{n}")
    cache, pod = tmp_path / "device.db", fake.pods["chat-1"]

    def asked() -> list[History]:
        return [frame for frame in pod.received if isinstance(frame, History)]

    async with client_of(fake, Recorder(), cache_path=cache) as client:
        await client.connect(5)
        newest = await client.history(ROOM, limit=10)
        assert [item.event.seq for item in newest.items] == list(range(21, 31))
        older = await client.history(ROOM, limit=15, before=26)
        assert [item.event.seq for item in older.items] == list(range(11, 26))
        assert [(frame.before, frame.limit) for frame in asked()] == [(None, 10), (21, 10)]
        await fake.say(ROOM, "31")
        await until(lambda: client.cursors[ROOM] == 31)
    async with client_of(fake, Recorder(), cache_path=cache) as client:
        await client.connect(5)
        newest = await client.history(ROOM, limit=20)
        assert [item.event.seq for item in newest.items] == list(range(12, 32))
        assert newest.more_before
        assert len(asked()) == 2, "all of it was in the cache"
