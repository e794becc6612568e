"""The prober's own two accounts and their one channel: made once, found again after."""

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
CHANNEL = "delivery-probe"
NAME = "Delivery probe"
RETENTION_S = 3_600
"""The shortest that there is."""


class People(Struct, frozen=True):
    """`control` sends as the prober itself, `pods` is who is connected to every pod."""

    control: Caller
    pods: Caller
    channel_id: str

    @property
    def control_actor(self) -> Actor:
        return Actor(self.control.user_id, self.control.device_id)


async def ensure_people(kernel: Kernel) -> People:
    """Again is harmless, also by two probers at once. Raises ChatError."""
    control, pods = [await _person(kernel, subject) for subject in SUBJECTS]
    channels = kernel.channels
    state = await channels.create_group(control.user_id, NAME, [pods.user_id], False, CHANNEL)
    if state.retention_s != RETENTION_S:
        await channels.set_retention(control.user_id, state.channel_id, RETENTION_S)
    return People(control, pods, state.channel_id)


async def _person(kernel: Kernel, subject: str) -> Caller:
    new = User(new_user_id(), f"probe-{new_user_id().removeprefix('u_')}", NAME, now_ms())
    user = await kernel.store.user_of_subject(ISSUER, subject, new)
    for device in await kernel.store.devices(user.user_id):
        return Caller(user.user_id, device.device_id)
    device = Device(new_device_id(), user.user_id, "prober", now_ms(), now_ms())
    await kernel.store.add_device(device)
    return Caller(user.user_id, device.device_id)
