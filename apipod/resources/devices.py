"""One's own devices."""

from __future__ import annotations

from msgspec import Struct

from apipod.operation import Call, Operation
from apipod.resources.accounts import Name
from apipod.services import Services
from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import Device
from chatkernel.validation import check_name


class DeviceList(Struct, frozen=True):
    """Newest first. `current` is the asking device's id."""

    devices: list[Device]
    current: str


class DeviceChange(Struct, frozen=True):
    name: Name


async def list_devices(services: Services, call: Call) -> DeviceList:
    return DeviceList(await services.store.devices(call.user_id), call.caller.device_id)


async def rename_device(services: Services, call: Call) -> None:
    body: DeviceChange = call.body
    name = check_name(body.name, services.live.limits)
    if not await services.store.rename_device(call.user_id, call.path["device_id"], name):
        raise ChatError(Code.NOT_FOUND, field="device_id")
    services.announcer.devices_changed(call.user_id)


async def revoke_device(services: Services, call: Call) -> None:
    if not await services.sessions.log_out(call.user_id, [call.path["device_id"]]):
        raise ChatError(Code.NOT_FOUND, field="device_id")


OPERATIONS = (
    Operation(
        "GET", "/v1/me/devices", "listDevices", "My devices", list_devices, answer=DeviceList, tag="people"
    ),
    Operation(
        "PATCH",
        "/v1/me/devices/{device_id}",
        "renameDevice",
        "Name a device of mine",
        rename_device,
        status=204,
        body=DeviceChange,
        errors=(Code.NOT_FOUND,),
        tag="people",
    ),
    Operation(
        "DELETE",
        "/v1/me/devices/{device_id}",
        "revokeDevice",
        "Log a device of mine out; its sockets close at once",
        revoke_device,
        status=204,
        errors=(Code.NOT_FOUND,),
        tag="people",
    ),
)
