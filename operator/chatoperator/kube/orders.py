"""Orders to chat pods by HTTP: given in the background, so that one pod that hangs holds up nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from chatoperator.manifests.names import PORT
from chatoperator.minihttp import Answer, PodHttp

log = logging.getLogger(__name__)

ORDER_TIMEOUT_S = 2.0
ASK_TIMEOUT_S = 1.0

Then = Callable[[], Awaitable[None]]


class PodLine:
    """To one pod. At most one order and one question are under way: the next plan asks again for what fails."""

    def __init__(self, name: str, ip: str, changed: Callable[[], None]) -> None:
        self.name, self.ip = name, ip
        self._changed = changed
        self._http = {what: PodHttp(ip, PORT) for what in ("order", "question")}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def order(self, path: str, body: Any, token: str, then: Then | None = None) -> bool:
        """`then` is done when the pod has heard. Whether it is on its way: not while another one is."""
        return self._begin("order", self._order(path, body, token, then))

    def ask(self, heard: Callable[[dict[str, Any]], None]) -> None:
        """`GET /statz`; a pod that does not answer says nothing."""
        self._begin("question", self._ask(heard))

    def close(self) -> None:
        """What is under way is given up."""
        for task in self._tasks.values():
            task.cancel()
        for http in self._http.values():
            http.close()

    def _begin(self, what: str, work: Any) -> bool:
        task = self._tasks.get(what)
        if task is not None and not task.done():
            work.close()
            return False
        self._tasks[what] = asyncio.create_task(work, name=f"{what} to {self.name}")
        return True

    async def _order(self, path: str, body: Any, token: str, then: Then | None) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        try:
            answer = await self._http["order"].request(
                "POST", path, headers=headers, body=body, timeout_s=ORDER_TIMEOUT_S
            )
            self._note(path, answer)
            if answer.status < 300 and then is not None:
                await then()
        except Exception as error:  # noqa: BLE001 - nobody waits for it: told here, and ordered again
            log.warning("order not heard", extra={"of": self.name, "order": path, "error": str(error)})
            return
        self._changed()

    def _note(self, path: str, answer: Answer) -> None:
        if answer.status >= 300:
            log.warning("order refused", extra={"of": self.name, "order": path, "status": answer.status})

    async def _ask(self, heard: Callable[[dict[str, Any]], None]) -> None:
        try:
            answer = await self._http["question"].request("GET", "/statz", timeout_s=ASK_TIMEOUT_S)
        except OSError:
            return
        if answer.status == 200:
            heard(answer.json())
