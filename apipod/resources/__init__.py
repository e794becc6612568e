"""The HTTP resources, one module each. `OPERATIONS` is the whole surface of an API pod."""

from __future__ import annotations

from apipod.operation import Operation
from apipod.resources import (
    accounts,
    channels,
    devices,
    frames,
    friends,
    health,
    lifecycle,
    me,
    members,
    presence,
    seats,
    sessions,
    users,
)

OPERATIONS: tuple[Operation, ...] = (
    # The busiest first: routes are tried in this order.
    *seats.OPERATIONS,
    *frames.OPERATIONS,
    *sessions.OPERATIONS,
    *channels.OPERATIONS,
    *members.OPERATIONS,
    *accounts.OPERATIONS,
    *me.OPERATIONS,
    *devices.OPERATIONS,
    *users.OPERATIONS,
    *friends.OPERATIONS,
    *presence.OPERATIONS,
    *lifecycle.OPERATIONS,
    *health.OPERATIONS,
)
