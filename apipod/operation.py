"""One HTTP operation as data: what serves it, what documents it, and what is checked before it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from chatkernel.access_tokens import Caller
from chatkernel.errors import Code

if TYPE_CHECKING:
    from apipod.services import Services


class NoQuery(Struct, frozen=True):
    """An operation without query parameters."""


@dataclass(slots=True)
class Call:
    """One request, checked: `body` and `query` are of the operation's types."""

    path: Mapping[str, str]
    body: Any
    query: Any
    address: str
    headers: Mapping[str, str]
    person: Caller | None

    @property
    def caller(self) -> Caller:
        """Who asks. Only operations that are not public may read it."""
        if self.person is None:
            raise LookupError("a public operation has no caller")
        return self.person

    @property
    def user_id(self) -> str:
        return self.caller.user_id


@dataclass(slots=True)
class Answer:
    """A response whose status or headers differ from the operation's usual ones. Content that comes in pieces is sent
    piece by piece; its headers say how long it is."""

    content: Any
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[["Services", Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path. `answer` is None for 204. `name` is the operation's id in the OpenAPI document."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    answer: Any = None
    status: int = 200
    body: Any = None
    body_optional: bool = False
    query: type[Struct] = NoQuery
    public: bool = False
    throttled: bool = True
    headers: tuple[str, ...] = ()
    """Request headers that the handler reads, in lower case."""
    errors: tuple[Code, ...] = ()
    other_answers: Mapping[int, Any] = field(default_factory=dict)
    """Further statuses that are answers, with their types."""
    error_answer: Any = None
    """The type of its errors when it is more than a problem document."""
    answer_type: str = "application/json"
    """The media type of the answer; another one is bytes, given as they are."""
    tag: str = ""
