"""Discovery: a seat on a chat pod."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from apipod.operation import Call, Operation
from apipod.services import Services
from chatkernel.errors import Code
from chatkernel.protocol import Seats

PodRef = Annotated[str, Meta(min_length=1, max_length=128)]


class SeatRequest(Struct, frozen=True):
    """`region`: where the device is (default: the API pod's own). `exclude`: pods that just failed."""

    region: Annotated[str, Meta(max_length=64)] | None = None
    exclude: Annotated[list[PodRef], Meta(max_length=64)] = []


async def take_seat(services: Services, call: Call) -> Seats:
    body: SeatRequest = call.body
    return await services.discovery.seats(call.caller, body.region, body.exclude)


OPERATIONS = (
    Operation(
        "POST",
        "/v1/seats",
        "takeSeat",
        "The best chat pod, with a single-use ticket, and alternatives",
        take_seat,
        answer=Seats,
        body=SeatRequest,
        body_optional=True,
        errors=(Code.NO_CAPACITY,),
        tag="discovery",
    ),
)
