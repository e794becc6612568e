"""A ticket is good once, for one device, on one run of one pod, for a while."""

from __future__ import annotations

import msgspec
from support.api_calls import Person
from support.crew import Crew
from support.rawsocket import Frame, seat

from chatkernel.errors import Close
from chatkernel.ids import now_ms
from chatkernel.settings import SecretFile
from chatkernel.tickets import TicketIssuer


async def refusal(some: Crew, url: str, ticket: str) -> tuple[str, int]:
    """The error's code and the close code that a hello with this ticket gets."""
    socket = await some.raw(url)
    answer = await socket.ask("hello", ticket=ticket)
    assert answer["type"] == "error", answer
    return answer["code"], await socket.closed()


def issuer_of(some: Crew, ttl_s: float) -> TicketIssuer:
    data = some.cluster.settings_of_any_pod()["secret_file"]
    with open(data, "rb") as file:
        return TicketIssuer(msgspec.json.decode(file.read(), type=SecretFile), ttl_s, now_ms)


async def two_seats(some: Crew, person: Person) -> tuple[Frame, Frame]:
    one, other = await some.cluster.ready()
    return await seat(person, one), await seat(person, other)


async def test_a_ticket_is_good_once(some: Crew) -> None:
    (ann,) = await some.people("ann")
    taken = await seat(ann)
    first = await some.raw(taken["url"])
    assert (await first.ask("hello", ticket=taken["ticket"]))["type"] == "ack"
    assert await refusal(some, taken["url"], taken["ticket"]) == ("ticket_used", Close.TICKET_REFUSED)
    assert (await first.ask("ping"))["type"] == "pong"


async def test_a_ticket_is_for_one_pod(some: Crew) -> None:
    (ann,) = await some.people("ann")
    one, other = await two_seats(some, ann)
    refused = await refusal(some, other["url"], one["ticket"])
    assert refused == ("ticket_wrong_pod", Close.TICKET_REFUSED)


async def test_a_ticket_is_for_one_run_of_a_pod(some: Crew) -> None:
    (ann,) = await some.people("ann")
    taken = await seat(ann)
    ticket, _ = issuer_of(some, 30).issue(ann.id, ann.device_id, taken["pod"], "an earlier run")
    refused = await refusal(some, taken["url"], ticket)
    assert refused == ("ticket_wrong_pod", Close.TICKET_REFUSED)


async def test_a_ticket_expires(some: Crew) -> None:
    (ann,) = await some.people("ann")
    taken = await seat(ann)
    incarnation = (await some.cluster.statz(taken["pod"]))["incarnation"]
    ticket, _ = issuer_of(some, 0.0).issue(ann.id, ann.device_id, taken["pod"], incarnation)
    assert await refusal(some, taken["url"], ticket) == ("ticket_expired", Close.TICKET_REFUSED)


async def test_a_ticket_that_was_changed_is_none(some: Crew) -> None:
    (ann,) = await some.people("ann")
    taken = await seat(ann)
    kid, body, mac = taken["ticket"].split(".")
    spoiled = [
        f"{kid}.{body}.{'0' * len(mac)}",
        f"{kid}.{body[:-4]}AAAA.{mac}",
        f"other.{body}.{mac}",
        f"{kid}.{body}",
        "...",
        "\u00fc.x.y",
        "x" * 2048,
    ]
    for ticket in spoiled:
        assert await refusal(some, taken["url"], ticket) == ("ticket_invalid", Close.TICKET_REFUSED)
