"""The conversation behind the examples of docs/protocol.md: Carol and Dave on two pods of a real cluster."""

from __future__ import annotations

from typing import Any

import httpx
from msgspec import Struct

from chatkernel.ids import now_ms
from docs.tools.cluster import Cluster
from docs.tools.render import Example, Exchange, Line
from docs.tools.steady import Steady
from docs.tools.talk import Person, Wire


class Run(Struct, frozen=True):
    """One conversation: examples by block name, as the document shows them; every frame that went over a socket;
    and what the cluster serves as its AsyncAPI document."""

    examples: dict[str, Example]
    transcript: list[Line]
    asyncapi: dict[str, Any]


class Conversation:
    """Has it once."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self._cluster = cluster
        self._steady = Steady(now_ms())
        self._carol, self._dave = (Person(http, self._steady, name) for name in ("carol", "dave"))
        self._raw: dict[str, Example] = {}
        self._lines: list[Line] = []
        self._channel = ""
        self._message_id = 0

    async def run(self) -> dict[str, Example]:
        await self._arrive()
        carol, dave = self._c, self._d
        await self._open_channel(carol, dave)
        await self._send(carol, dave)
        await self._change(carol, dave)
        await self._receipts(carol, dave)
        await self._beat(carol)
        await self._read_back(carol)
        await self._refusals(carol)
        await self._group(carol, dave)
        await self._by_http(carol)
        await self._come_back(carol, dave)
        await self._notice(carol)
        await self._move(carol)
        await self._say_the_rest(self._c)
        await self._log_out()
        return {name: self._shown(example) for name, example in self._raw.items()}

    @property
    def transcript(self) -> list[Line]:
        return self._carol.transcript + self._dave.transcript

    def _shown(self, example: Example) -> Example:
        steady = self._steady
        if isinstance(example, Exchange):
            return Exchange(
                steady.text(example.request),
                steady.of(example.body),
                example.status,
                steady.of(example.answer),
            )
        return [Line(line.who, line.way, steady.of(line.said)) for line in example]

    def _keep(self, name: str) -> None:
        """What was said since the last time is this example."""
        self._raw[name] = list(self._lines)
        self._lines.clear()

    async def _arrive(self) -> None:
        carol, dave, lines = self._carol, self._dave, self._lines
        self._raw["sign-up"] = await carol.sign_up()
        await dave.sign_up()
        self._raw["seat"] = seats = await carol.seat()
        self._c = wire = await carol.dial(lines, seats.answer)
        await wire.say(
            {"type": "hello", "id": "1", "ticket": seats.answer["best"]["ticket"], "client": "evening/1.0"}
        )
        self._steady.call((await wire.hear("welcome"))["session_id"], "5e55105e55105e55")
        await wire.hear("page", id="1")
        await wire.hear("ack", id="1")
        self._keep("hello")
        self._d = await dave.greet(lines, {})
        lines.clear()

    async def _open_channel(self, carol: Wire, dave: Wire) -> None:
        exchange = await self._carol.ask("POST", "/v1/channels", {"kind": "direct", "user_id": self._dave.id})
        self._channel = exchange.answer["channel_id"]
        self._steady.call(self._channel, "local_p1")
        self._raw["open-channel"] = exchange
        await carol.hear("event", kind="created")
        await dave.hear("event", kind="created")
        self._keep("created")

    async def _send(self, carol: Wire, dave: Wire) -> None:
        send = {"type": "send", "id": "2", **self._of("m-1"), "text": "hello Dave"}
        await carol.say(send)
        self._message_id = (await carol.hear("ack", id="2"))["message_id"]
        await carol.hear("event", kind="message")
        await dave.hear("event", kind="message")
        self._keep("send")
        await carol.say({**send, "id": "3"})
        await carol.hear("ack", id="3")
        self._keep("resend")

    async def _change(self, carol: Wire, dave: Wire) -> None:
        await carol.say({"type": "edit", "id": "4", **self._of("e-1"), **self._at(), "text": "hello, Dave!"})
        await carol.hear("ack", id="4")
        await dave.hear("event", kind="edit")
        self._keep("edit")
        await dave.say({"type": "react", "id": "2", **self._of("r-1"), **self._at(), "emoji": "👋"})
        await dave.hear("ack", id="2")
        await carol.hear("event", kind="reaction")
        self._keep("react")

    async def _receipts(self, carol: Wire, dave: Wire) -> None:
        await dave.say({"type": "read", "id": "3", "channel_id": self._channel, "seq": 4})
        await dave.hear("receipt", unread=0)
        await dave.hear("ack", id="3")
        await carol.hear("receipt")
        self._keep("read")
        await dave.say({"type": "typing", "id": "4", "channel_id": self._channel})
        await dave.hear("ack", id="4")
        await carol.hear("typing")
        self._keep("typing")

    async def _beat(self, carol: Wire) -> None:
        await carol.say({"type": "ping", "id": "5"})
        await carol.hear("pong", id="5")
        self._keep("ping")
        await carol.say({"type": "presence.watch", "id": "6", "user_ids": [self._dave.id]})
        await carol.hear("presence", id="6")
        await carol.hear("ack", id="6")
        self._keep("presence")

    async def _read_back(self, carol: Wire) -> None:
        await carol.say({"type": "sync", "id": "7", "cursors": {self._channel: 2}})
        while not (await carol.hear("page", id="7")).get("done", True):
            pass
        await carol.hear("ack", id="7")
        self._keep("sync")
        await carol.say({"type": "history", "id": "8", "channel_id": self._channel, "limit": 20})
        await carol.hear("page", id="8")
        await carol.hear("ack", id="8")
        self._keep("history")

    async def _refusals(self, carol: Wire) -> None:
        await carol.say({"type": "send", "id": "9", **self._of("m-2"), "text": ""})
        await carol.hear("error", id="9")
        await carol.say(
            {"type": "send", "id": "10", "channel_id": "local_p0", "client_msg_id": "m-3", "text": "hi"}
        )
        await carol.hear("error", id="10")
        await carol.say({"type": "dance", "id": "11"})
        await carol.hear("error", id="11")
        self._keep("errors")
        seats = (await self._carol.seat()).answer
        wire = await self._carol.dial(self._lines, seats)
        await wire.say({"type": "ping", "id": "1"})
        await wire.hear("error", id="1")
        await wire.hear_close()
        self._keep("no-hello")

    async def _group(self, carol: Wire, dave: Wire) -> None:
        body = {"kind": "group", "name": "Lunch", "members": [self._dave.id]}
        made = await self._carol.ask("POST", "/v1/channels", body)
        group = made.answer["channel_id"]
        self._steady.call(group, "local_g1")
        self._raw["open-group"] = made
        await dave.hear("event", kind="created", channel_id=group)
        await self._carol.ask("DELETE", f"/v1/channels/{group}/members/{self._dave.id}")
        await dave.hear("event", kind="leave", channel_id=group)
        self._keep("removed")

    async def _by_http(self, carol: Wire) -> None:
        frame = {"type": "send", "id": "x", **self._of("m-4"), "text": "sent by HTTP"}
        self._raw["http-frame"] = await self._carol.ask("POST", "/v1/frames", frame)
        self._raw["http-error"] = await self._carol.ask("POST", "/v1/frames", {**frame, "text": ""})

    async def _come_back(self, carol: Wire, dave: Wire) -> None:
        await dave.close()
        await carol.say({"type": "send", "id": "12", **self._of("m-5"), "text": "are you there?"})
        await carol.hear("ack", id="12")
        self._lines.clear()
        self._d = await self._dave.greet(self._lines, {self._channel: 5})
        self._keep("come-back")

    async def _notice(self, carol: Wire) -> None:
        await self._dave.ask("PUT", f"/v1/friends/{self._carol.id}")
        await carol.hear("notice", topic="friends")
        self._keep("notice")

    async def _move(self, carol: Wire) -> None:
        status = await self._cluster.control(do="status")
        pod = (await self._pod_of(status)) or ""
        await self._cluster.control(do="drain", pod=pod)
        await carol.hear("migrate")
        moved = await self._carol.greet(self._lines, {self._channel: 6}, exclude=[pod])
        await carol.close()
        self._lines.append(Line("carol", "--", "closes the old socket"))
        self._keep("migrate")
        self._c = moved

    async def _pod_of(self, status: dict[str, Any]) -> str | None:
        """The pod that Carol is on, by the seat she was given."""
        seats = self._raw["seat"]
        assert isinstance(seats, Exchange)  # noqa: S101 - made by _arrive
        here = str(seats.answer["best"]["pod"])
        return here if any(pod["name"] == here for pod in status["pods"]) else None

    async def _say_the_rest(self, carol: Wire) -> None:
        """Frames that the document does not show: for those who look at the whole transcript."""
        await carol.say({"type": "delivered", "id": "20", "channel_id": self._channel, "seq": 6})
        await carol.hear("ack", id="20")
        await carol.say({"type": "delete", "id": "21", **self._of("d-1"), **self._at()})
        await carol.hear("ack", id="21")
        self._lines.clear()

    async def _log_out(self) -> None:
        await self._carol.ask("DELETE", "/v1/sessions/current")
        await self._c.hear_close()
        self._keep("logged-out")

    def _of(self, client_msg_id: str) -> dict[str, Any]:
        return {"channel_id": self._channel, "client_msg_id": client_msg_id}

    def _at(self) -> dict[str, Any]:
        return {"message_id": self._message_id}


async def converse(cluster: Cluster) -> Run:
    async with httpx.AsyncClient(base_url=cluster.url, trust_env=False, timeout=10) as http:
        conversation = Conversation(cluster, http)
        examples = await conversation.run()
        return Run(examples, conversation.transcript, (await http.get("/asyncapi.json")).json())
