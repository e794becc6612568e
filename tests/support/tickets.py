"""Connections to one chat pod by tickets of the test's own making: no API pod is needed."""

from __future__ import annotations

from support.rawsocket import Frame, RawSocket
from support.services import SECRETS, Service, Shore

from chatkernel.ids import new_device_id, new_user_id, now_ms
from chatkernel.settings import SOCKET_PATH
from chatkernel.storage.model import Device, User
from chatkernel.storage.open import open_store
from chatkernel.tickets import TicketIssuer


async def socket_at(ground: Shore, pod: Service, path: str = SOCKET_PATH) -> RawSocket:
    """Somebody new, who has said hello."""
    user_id, device_id = new_user_id(), new_device_id()
    store = await open_store(ground.store_url)
    try:
        await store.create_user(User(user_id, user_id.replace("_", "-"), "Somebody", now_ms()), "")
        await store.add_device(Device(device_id, user_id, "", now_ms(), now_ms()))
    finally:
        await store.aclose()
    incarnation = (await pod.stats())["incarnation"]
    ticket, _ = TicketIssuer(SECRETS, 30.0, now_ms).issue(user_id, device_id, pod.name, incarnation)
    socket = await RawSocket.open(pod.url.replace("http", "ws", 1) + path, pod.name)
    answer = await socket.ask("hello", ticket=ticket)
    assert answer["type"] == "ack", answer
    return socket


def moves(frame: Frame) -> bool:
    """Whether it is told to move: for `until`."""
    return bool(frame["type"] == "migrate")
