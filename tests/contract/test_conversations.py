"""My conversations: order, pages, last message, unread, prefs."""

from __future__ import annotations

import pytest
from channel_log import START_MS, ChannelLog

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import EventKind, Role
from chatkernel.storage.model import Conversation, ConversationPrefs
from chatkernel.storage.open import Store


async def listed(
    store: Store, user_id: str, *, archived: bool = False, limit: int = 50
) -> list[Conversation]:
    """All pages."""
    found: list[Conversation] = []
    cursor: str | None = None
    while True:
        page = await store.conversations(user_id, cursor=cursor, limit=limit, archived=archived)
        assert len(page.conversations) <= limit
        found += page.conversations
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_a_line_has_what_a_list_shows(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob", "u_cem", "u_dan", "u_eve", "u_fay", name="Team")
    said = await log.say("u_ann", "one")
    await log.append(EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="x", on=True)
    edit = await log.append(EventKind.EDIT, "u_ann", target_id=said.message_id, text="one!")
    [line] = await listed(store, "u_bob")
    assert (line.channel_id, line.name, line.role, line.member_count) == (
        log.channel_id,
        "Team",
        Role.MEMBER,
        6,
    )
    assert (line.seq, line.activity_id, line.unread, line.read_seq) == (4, edit.message_id, 1, 0)
    assert line.members == ["u_ann", "u_cem", "u_dan", "u_eve"]
    assert line.last_message is not None
    assert (line.last_message.event.seq, line.last_message.event.text) == (2, "one!")
    assert line.last_message.reactions == {"x": ["u_bob"]}
    assert line.prefs == ConversationPrefs()


async def test_the_last_message_is_the_last_message_whatever_was_done_since(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob", name="Team")
    [line] = await listed(store, "u_bob")
    assert line.last_message is None
    said = await log.say("u_ann", "one")
    await log.append(EventKind.JOIN, "u_ann", users=["u_cem"])
    rename = await log.append(EventKind.RENAME, "u_ann", name="Us")
    [line] = await listed(store, "u_bob")
    assert (line.name, line.activity_id) == ("Us", rename.message_id)
    assert line.last_message is not None and line.last_message.event == said
    [line] = await listed(store, "u_cem")
    assert line.last_message is None  # who came later does not see what was before
    await log.append(EventKind.DELETE, "u_ann", target_id=said.message_id)
    [line] = await listed(store, "u_bob")
    assert line.last_message is not None
    assert line.last_message.deleted and line.last_message.event.text is None


async def test_newest_activity_first_in_pages(store: Store) -> None:
    """Some at the very same millisecond: no line is missed or shown twice between pages."""
    logs = [ChannelLog(store, start_ms=START_MS + number // 3) for number in range(13)]
    for log in logs:
        await log.create("u_ann", "u_bob")
    await logs[4].say("u_bob", "now the newest")
    for limit in (1, 2, 5, 50):
        found = [line.channel_id for line in await listed(store, "u_ann", limit=limit)]
        assert found[0] == logs[4].channel_id
        assert sorted(found) == sorted(log.channel_id for log in logs)
    activity = [line.activity_id for line in await listed(store, "u_ann")]
    assert activity == sorted(activity, reverse=True)
    assert await listed(store, "u_eve") == []


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.", ".a", "-1.a", "9" * 40 + ".a", "\uff11.a"])
async def test_a_bad_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(ChatError) as refused:
        await store.conversations("u_ann", cursor=cursor, limit=5, archived=False)
    assert (refused.value.code, refused.value.field) == (Code.INVALID_FIELD, "cursor")


async def test_prefs_are_ones_own(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")

    async def put(user_id: str, **change: int) -> ConversationPrefs | None:
        every = {"muted_until": None, "pinned": None, "archived": None, **change}
        return await store.conversation_prefs(log.channel_id, user_id, **every)  # type: ignore[arg-type]

    assert await put("u_ann", muted_until=5) == ConversationPrefs(5, False, False)
    assert await put("u_ann", pinned=True) == ConversationPrefs(5, True, False)
    assert await put("u_ann", archived=True) == ConversationPrefs(5, True, True)
    assert await put("u_ann", muted_until=0, pinned=False) == ConversationPrefs(0, False, True)
    assert await put("u_eve", pinned=True) is None
    assert await listed(store, "u_ann") == []
    assert [line.prefs.archived for line in await listed(store, "u_ann", archived=True)] == [True]
    assert [line.prefs.archived for line in await listed(store, "u_bob")] == [False]
