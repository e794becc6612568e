"""Broken: what makes a resend known is forgotten."""

from __future__ import annotations

from switch import is_on

from chatkernel.appender import Appender
from chatkernel.drafts import Draft
from chatkernel.ids import new_client_msg_id
from chatkernel.storage.model import SendKey


def install() -> None:
    real = Appender.submit

    def submit(self: Appender, draft: Draft) -> None:
        if is_on(__name__):
            draft.client_msg_id = new_client_msg_id()
            draft.key = SendKey(draft.channel_id, draft.sender_id, draft.client_msg_id)
        real(self, draft)

    Appender.submit = submit  # type: ignore[method-assign]
