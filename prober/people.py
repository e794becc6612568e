"""The prober's own two accounts and the channels that they are in: made once, found again after."""

from __future__ import annotations

from msgspec import Struct

from chatkernel.access_tokens import Caller
from chatkernel.ids import new_device_id, new_user_id, now_ms
from chatkernel.messaging import Actor
from chatkernel.storage.model import Device, User
from chatkernel.wiring import Kernel

ISSUER = "urn:chatcluster:prober"
"""Of whom the accounts are, as far as the store can tell: so they have no password, and nobody can log in as them.
Their user names are random, so that nobody finds them."""
SUBJECTS = ("control", "pods")
NAME = "Delivery probe"
RETENTION_S = 3_600
"""The shortest that there is."""


class People(Struct, frozen=True):
    """`control` sends as the prober itself, `pods` is who is connected to every pod.

    Each has a channel of its own, and so have the seats of discovery: what a pod has missed in a channel it looks for
    in the store as soon as the next message of that channel comes to it, or is sent by it, and would hide that."""

    control: Caller
    pods: Caller
    control_channel: str
    seats_channel: str

    @property
    def control_actor(self) -> Actor:
        return Actor(self.control.user_id, self.control.device_id)


async def ensure_people(kernel: Kernel) -> People:
    """Again is harmless, also by two probers at once. Raises ChatError."""
    control, pods = [await _person(kernel, subject) for subject in SUBJECTS]
    people = People(control, pods, "", "")
    names = {name: await ensure_channel(kernel, people, name) for name in ("control", "seats")}
    return People(control, pods, names["control"], names["seats"])


async def ensure_channel(kernel: Kernel, people: People, name: str) -> str:
    """The id of a channel of both, by a name that is the same for ever. Raises ChatError."""
    owner, channels = people.control.user_id, kernel.channels
    state = await channels.create_group(owner, NAME, [people.pods.user_id], False, f"delivery-probe-{name}")
    if state.retention_s != RETENTION_S:
        await channels.set_retention(owner, state.channel_id, RETENTION_S)
    return state.channel_id


async def _person(kernel: Kernel, subject: str) -> Caller:
    new = User(new_user_id(), f"probe-{new_user_id().removeprefix('u_')}", NAME, now_ms())
    user = await kernel.store.user_of_subject(ISSUER, subject, new)
    for device in await kernel.store.devices(user.user_id):
        return Caller(user.user_id, device.device_id)
    device = Device(new_device_id(), user.user_id, "prober", now_ms(), now_ms())
    await kernel.store.add_device(device)
    return Caller(user.user_id, device.device_id)
