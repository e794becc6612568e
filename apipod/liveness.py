"""Whether devices are still logged in: asked of the store in batches, remembered for at most two seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chatkernel.batching import Coalescer
from chatkernel.storage.directory import Devices

REMEMBER_S = 2.0
"""How long a device revoked through another API pod may still be served by this one."""
REMEMBERED_MAX = 50_000


class Liveness:
    """A cache of live devices. Only "live" is remembered: a refusal is always fresh."""

    def __init__(
        self, devices: Devices, monotonic: Callable[[], float], remember_s: float = REMEMBER_S
    ) -> None:
        self._devices, self._monotonic, self._remember_s = devices, monotonic, remember_s
        self._live_until: dict[str, float] = {}
        self._drops = 0
        self._coalescer: Coalescer[str, bool] = Coalescer(self._ask)

    async def is_live(self, device_id: str) -> bool:
        """Raises ChatError(STORAGE_UNAVAILABLE)."""
        until = self._live_until.get(device_id)
        if until is not None and until > self._monotonic():
            return True
        return await self._coalescer.call(device_id)

    def drop(self, device_ids: Iterable[str]) -> None:
        """Forget these: they were revoked, and the next request must see it."""
        self._drops += 1
        for device_id in device_ids:
            self._live_until.pop(device_id, None)

    async def _ask(self, device_ids: Sequence[str]) -> list[bool]:
        drops, asked_at = self._drops, self._monotonic()
        live = await self._devices.live_devices(list(dict.fromkeys(device_ids)))
        # A device revoked while the store was asked may have been read as live just before: such an answer is
        # given to those who waited for it, and not remembered.
        if drops == self._drops:
            if len(self._live_until) > REMEMBERED_MAX:
                self._live_until.clear()
            self._live_until.update(dict.fromkeys(live, asked_at + self._remember_s))
        return [device_id in live for device_id in device_ids]
