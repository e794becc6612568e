"""Channels and who is in them: every change is an event of the channel's own log, allowed by role."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatkernel.appender import Appender
from chatkernel.drafts import Check, Placed
from chatkernel.errors import ChatError, Code, invalid
from chatkernel.ids import UserId, direct_channel_id, group_id, new_client_msg_id
from chatkernel.live import Live
from chatkernel.protocol import EventKind, Role
from chatkernel.storage.directory import Accounts, People
from chatkernel.storage.messages import Conversations
from chatkernel.storage.model import (
    Absence,
    ChannelInfo,
    ChannelKind,
    ChannelState,
    ConversationPrefs,
    Grant,
    Member,
)
from chatkernel.validation import check_name

RETENTION_LEAST_S = 3_600
"""The shortest that a group may keep what is in it: longer than any sender tries to send again."""

RANK = {Role.MEMBER: 0, Role.ADMIN: 1, Role.OWNER: 2}


class Channels:
    """Holds no state; races between two changes are decided by the log."""

    def __init__(
        self,
        *,
        conversations: Conversations,
        accounts: Accounts,
        people: People,
        appender: Appender,
        live: Live,
        region: str,
        retention_s: int = 0,
    ) -> None:
        """`retention_s`: how long the cluster keeps what is in channels; 0: for ever."""
        self._conversations, self._accounts, self._people = conversations, accounts, people
        self._appender, self._live, self._region = appender, live, region
        self._retention_s = retention_s

    async def open_direct(self, actor_id: str, other_id: str) -> tuple[ChannelState, bool]:
        """The 1:1 channel of the two and whether this call made it. Raises ChatError."""
        if actor_id == other_id:
            raise invalid("user_id", "must be another person")
        if other_id not in await self._accounts.users([other_id]):
            raise ChatError(Code.USER_NOT_FOUND, field="user_id")
        channel_id = direct_channel_id(self._region, UserId(actor_id), UserId(other_id))
        state = await self._conversations.channel(channel_id)
        if state is not None:
            return state, False
        if await self._people.blocked_between(actor_id, other_id):
            raise ChatError(Code.BLOCKED)
        await self._check_room_for(actor_id)
        info = ChannelInfo(channel_id, ChannelKind.DIRECT, "", True)
        try:
            await self._create(info, actor_id, [actor_id, other_id])
            created = True
        except ChatError as error:
            if error.code is not Code.CONFLICT:
                raise
            created = False  # the other side opened it at the same moment
        return await self._state(channel_id), created

    async def create_group(
        self,
        actor_id: str,
        name: str,
        members: Sequence[str],
        history_from_start: bool,
        client_id: str | None,
    ) -> ChannelState:
        """A new group whose owner is the actor; asked twice with one `client_id`, the same one. Raises ChatError."""
        name = check_name(name, self._live.limits)
        channel_id = group_id(self._region, actor_id, client_id or new_client_msg_id())
        if isinstance(await self._conversations.grant(channel_id, actor_id), Grant):
            return await self._state(channel_id)
        await self._check_room_for(actor_id)
        others = await self._addable(actor_id, [m for m in members if m != actor_id], 1, "members")
        info = ChannelInfo(channel_id, ChannelKind.GROUP, name, history_from_start)
        try:
            await self._create(info, actor_id, [actor_id, *others])
        except ChatError as error:
            if error.code is not Code.CONFLICT:
                raise
            await self._grant(actor_id, channel_id)  # the same request came twice at the same moment
        return await self._state(channel_id)

    async def state(self, actor_id: str, channel_id: str) -> ChannelState:
        """Raises ChatError(CHANNEL_NOT_FOUND | BANNED)."""
        await self._grant(actor_id, channel_id)
        return await self._state(channel_id)

    async def members(self, actor_id: str, channel_id: str, after: str, limit: int) -> list[Member]:
        """Raises ChatError(CHANNEL_NOT_FOUND | BANNED)."""
        await self._grant(actor_id, channel_id)
        return await self._conversations.members(channel_id, after_user_id=after, limit=limit)

    async def rename(self, actor_id: str, channel_id: str, name: str) -> None:
        name = check_name(name, self._live.limits)
        grant = await self._group_grant(actor_id, channel_id)
        _needs(Role.ADMIN)(grant)
        await self._change(grant, EventKind.RENAME, name=name, check=_needs(Role.ADMIN))

    async def set_retention(self, actor_id: str, channel_id: str, retention_s: int) -> None:
        """How long the group keeps what is in it; 0: as long as the cluster. Raises ChatError."""
        if 0 < retention_s < RETENTION_LEAST_S:
            raise invalid("retention_s", f"0, or at least {RETENTION_LEAST_S}", RETENTION_LEAST_S)
        if self._retention_s and retention_s > self._retention_s:
            most = self._retention_s
            raise invalid("retention_s", f"at most {most}, which is what the cluster keeps", most)
        grant = await self._group_grant(actor_id, channel_id)
        _needs(Role.ADMIN)(grant)
        await self._change(grant, EventKind.RETENTION, retention_s=retention_s, check=_needs(Role.ADMIN))

    async def add_members(self, actor_id: str, channel_id: str, user_ids: Sequence[str]) -> list[str]:
        """Add people who are not in the group; those who were really added. Banned people need an unban: an admin
        who adds a banned person lifts the ban."""
        grant = await self._group_grant(actor_id, channel_id)
        _needs(Role.ADMIN)(grant)
        present = {m.user_id for m in await self._conversations.members(channel_id, limit=100_000)}
        wanted = [user_id for user_id in user_ids if user_id not in present]
        added = await self._addable(actor_id, wanted, grant.member_count, "user_ids")
        if added:
            await self._change(grant, EventKind.JOIN, users=added, check=self._still_fits(len(added)))
        return added

    def _still_fits(self, more: int) -> Callable[[Grant], None]:
        """Two admins who add at once must not make the group too large together."""

        def check(grant: Grant) -> None:
            _needs(Role.ADMIN)(grant)
            if grant.member_count + more > self._live.limits.group_members_max:
                most = self._live.limits.group_members_max
                raise _group_full("user_ids", most)

        return check

    async def remove_member(self, actor_id: str, channel_id: str, user_id: str, ban: bool) -> None:
        """Remove or ban somebody of a lower role, or leave when it is oneself."""
        grant = await self._group_grant(actor_id, channel_id)
        if user_id == actor_id:
            _may_leave(grant)
            await self._change(grant, EventKind.LEAVE, users=[user_id], check=_may_leave)
            return

        async def check(actor: Grant) -> None:
            _needs(Role.ADMIN)(actor)
            target = await self._conversations.grant(channel_id, user_id)
            if isinstance(target, Absence):
                # Somebody who is not in the group, or not yet, may be banned; a name that nobody has may not.
                if not ban or user_id not in await self._accounts.users([user_id]):
                    raise ChatError(Code.USER_NOT_FOUND, field="user_id")
            elif RANK[target.role] >= RANK[actor.role]:
                raise ChatError(Code.FORBIDDEN, "The person's role is not below yours")

        await check(grant)
        kind = EventKind.BAN if ban else EventKind.LEAVE
        await self._change(grant, kind, users=[user_id], check=check)

    async def set_role(self, actor_id: str, channel_id: str, user_id: str, role: Role) -> None:
        """The owner gives roles; OWNER hands the group over (the old owner becomes an admin)."""
        grant = await self._group_grant(actor_id, channel_id)

        async def check(actor: Grant) -> None:
            _needs(Role.OWNER)(actor)
            if isinstance(await self._conversations.grant(channel_id, user_id), Absence):
                raise ChatError(Code.USER_NOT_FOUND, field="user_id")

        _needs(Role.OWNER)(grant)
        if user_id == actor_id:
            raise ChatError(Code.CONFLICT, "The owner hands the group over to another member")
        await check(grant)
        await self._change(grant, EventKind.ROLE, users=[user_id], role=role, check=check)

    async def set_prefs(
        self,
        actor_id: str,
        channel_id: str,
        *,
        muted_until: int | None,
        pinned: bool | None,
        archived: bool | None,
    ) -> ConversationPrefs:
        prefs = await self._conversations.conversation_prefs(
            channel_id, actor_id, muted_until=muted_until, pinned=pinned, archived=archived
        )
        if prefs is None:
            raise ChatError(Code.CHANNEL_NOT_FOUND)
        return prefs

    async def _grant(self, actor_id: str, channel_id: str) -> Grant:
        grant = await self._conversations.grant(channel_id, actor_id)
        if isinstance(grant, Absence):
            raise ChatError(Code.BANNED if grant is Absence.BANNED else Code.CHANNEL_NOT_FOUND)
        return grant

    async def _group_grant(self, actor_id: str, channel_id: str) -> Grant:
        grant = await self._grant(actor_id, channel_id)
        if grant.kind is not ChannelKind.GROUP:
            raise ChatError(Code.CONFLICT, "A 1:1 channel has no such change")
        return grant

    async def _state(self, channel_id: str) -> ChannelState:
        state = await self._conversations.channel(channel_id)
        if state is None:
            raise ChatError(Code.CHANNEL_NOT_FOUND)
        return state

    async def _addable(self, actor_id: str, user_ids: Sequence[str], present: int, field: str) -> list[str]:
        """The people, once each, who exist and can be added. Left out in silence are who has blocked the actor, and
        who is in as many channels as one may be in: neither is for the actor to know."""
        wanted = list(dict.fromkeys(user_ids))
        most = self._live.limits.group_members_max
        if len(wanted) + present > most:
            raise _group_full(field, most)
        known = await self._accounts.users(wanted)
        missing = [user_id for user_id in wanted if user_id not in known]
        if missing:
            raise ChatError(Code.USER_NOT_FOUND, f"No such user: {missing[0][:64]}", field=field)
        counts = await self._conversations.channel_counts(wanted)
        free = [u for u in wanted if counts.get(u, 0) < self._live.limits.channels_per_user_max]
        return [user_id for user_id in free if not await self._people.blocked_between(actor_id, user_id)]

    async def _check_room_for(self, actor_id: str) -> None:
        most = self._live.limits.channels_per_user_max
        if (await self._conversations.channel_counts([actor_id])).get(actor_id, 0) >= most:
            raise ChatError(
                Code.LIMIT_REACHED,
                f"You are in {most} channels, the most there may be",
                field="kind",
                limit=most,
            )

    async def _create(self, info: ChannelInfo, actor_id: str, users: list[str]) -> None:
        """Raises ChatError(CONFLICT) when another call has made it. The key is one that no client can have sent:
        it is the sender's own key space."""
        await self._appender.append(
            channel_id=info.channel_id,
            sender_id=actor_id,
            client_msg_id=new_client_msg_id(),
            kind=EventKind.CREATED,
            members_seq=0,
            users=users,
            name=info.name or None,
            channel=info,
        )

    async def _change(
        self,
        grant: Grant,
        kind: EventKind,
        *,
        users: list[str] | None = None,
        role: Role | None = None,
        name: str | None = None,
        retention_s: int | None = None,
        check: Check,
    ) -> Placed:
        placed, _ = await self._appender.append(
            channel_id=grant.channel_id,
            sender_id=grant.user_id,
            client_msg_id=new_client_msg_id(),
            kind=kind,
            members_seq=grant.members_seq,
            users=users,
            role=role,
            name=name,
            retention_s=retention_s,
            check=check,
        )
        return placed


def _group_full(field: str, most: int) -> ChatError:
    return ChatError(Code.LIMIT_REACHED, f"A group has at most {most} members", field=field, limit=most)


def _may_leave(grant: Grant) -> None:
    if grant.role is Role.OWNER and grant.member_count > 1:
        raise ChatError(Code.CONFLICT, "The owner hands the group over before leaving")


def _needs(role: Role) -> Callable[[Grant], None]:
    def check(grant: Grant) -> None:
        if RANK[grant.role] < RANK[role]:
            raise ChatError(Code.FORBIDDEN, f"Only the {role} may do this" if role is Role.OWNER else "")

    return check
