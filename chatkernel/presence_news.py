"""Telling who came or went: those whom it concerns, and nobody whom the person has blocked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from chatkernel.bus import Post, PresenceChange
from chatkernel.errors import ChatError
from chatkernel.presence import Audience
from chatkernel.protocol import Presence, PresenceEntry, encode_json
from chatkernel.storage.directory import People

log = logging.getLogger(__name__)

NOBODY = Audience([], [])


def presence_post(entry: PresenceEntry, audience: Audience) -> Post:
    channels, people = audience.channel_ids, audience.user_ids
    change = PresenceChange(
        encode_json(Presence([entry])), entry.user_id, channels, people, audience.hidden_from
    )
    return Post(change, tuple(channels), tuple(people), (entry.user_id,))


async def audiences_now(
    people: People, user_ids: Sequence[str], kept: Mapping[str, Audience]
) -> dict[str, Audience]:
    """The audiences that were kept, with the blocks of now: one that is younger than an audience counts at once.
    While the store is away, with those that were kept."""
    audiences = {user_id: kept.get(user_id, NOBODY) for user_id in user_ids}
    try:
        hidden = await people.blocked_by(list(audiences))
    except ChatError as error:
        log.info("presence.blocks_unknown", extra={"code": error.code})
        return audiences
    return {
        user_id: replace(audience, hidden_from=hidden[user_id]) for user_id, audience in audiences.items()
    }
