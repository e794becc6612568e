"""What a client tells its app. Subclass `Listener` for callbacks, or use `ChatClient.events()` for an
iterator."""

from __future__ import annotations

from dataclasses import dataclass

from chatkernel.protocol import Event, Notice, Presence, Receipt, TypingNotice


@dataclass(frozen=True, slots=True)
class Up:
    """Connected and in sync. The first time `from_pod` is None.

    `took_s` counts from the loss of the old connection (or from the pod's word that it is going) until
    everything missed had been handed on. `moved`: the old socket was open until then, so nothing was
    interrupted.
    """

    pod: str
    from_pod: str | None
    took_s: float
    moved: bool
    caught_up: int
    """Events that came by sync on the way."""
    reason: str = ""
    """For a move: the pod's word, such as `draining`."""


@dataclass(frozen=True, slots=True)
class Down:
    """The connection was lost; the client is looking for another seat."""

    pod: str
    code: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over for good: logged out, revoked, or refused."""

    reason: str


StateChange = Up | Down | Ended


class Listener:
    """Called on the client's loop, in order; must not block. Every method does nothing unless overridden."""

    def on_event(self, event: Event, live: bool) -> None:
        """The next event of its channel. `live`: it came by itself, not by a sync."""

    def on_refused(self, event: Event) -> None:
        """An event that is not handed on: had before, or of a channel that is not (or no longer) ours."""

    def on_receipt(self, receipt: Receipt) -> None: ...

    def on_typing(self, typing: TypingNotice) -> None: ...

    def on_presence(self, presence: Presence) -> None: ...

    def on_notice(self, frame: Notice) -> None: ...

    def on_state(self, change: StateChange) -> None: ...
