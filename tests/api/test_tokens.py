"""Our own tokens: several keys, one algorithm, times by the clock that is passed in."""

import jwt
import pytest

from apipod.tokens import new_refresh_token, refresh_hash
from chatkernel.access_tokens import AccessTokens, Caller, token_header
from chatkernel.errors import ChatError, Code
from chatkernel.settings import SecretFile, SigningKey

OLD, NEW = SigningKey("old", "o" * 40), SigningKey("new", "n" * 40)
CALLER = Caller("u_1", "d_1")


class Clock:
    ms = 1_800_000_000_000

    def __call__(self):
        return self.ms


def tokens(*keys, clock=None):
    return AccessTokens(SecretFile(list(keys)), 600, clock or Clock())


def code_of(call, *args):
    with pytest.raises(ChatError) as caught:
        call(*args)
    return caught.value.code


def test_a_token_says_who_until_when():
    clock = Clock()
    ours = tokens(NEW, clock=clock)
    token, expires_at = ours.issue(CALLER)
    verified = ours.verify(token, token_header(token))
    assert verified.caller == CALLER
    assert verified.expires_at == expires_at == clock.ms + 600_000


def test_after_a_rotation_the_old_key_verifies_and_the_new_one_signs():
    before, _ = tokens(OLD).issue(CALLER)
    during = tokens(NEW, OLD)
    assert during.verify(before, token_header(before)).caller == CALLER
    after, _ = during.issue(CALLER)
    assert token_header(after)["kid"] == "new"
    assert not tokens(NEW).knows(token_header(before))


def test_expiry_is_by_the_given_clock():
    clock = Clock()
    ours = tokens(NEW, clock=clock)
    token, _ = ours.issue(CALLER)
    clock.ms += 600_001
    assert code_of(ours.verify, token, token_header(token)) is Code.TOKEN_EXPIRED


def test_forgeries_are_refused():
    ours = tokens(NEW)
    token, _ = ours.issue(CALLER)
    body = token.rpartition(".")[0]
    forged = [
        body + ".AAAA",
        jwt.encode({"sub": "u_1", "dev": "d_1", "exp": 9e9}, "n" * 40, "HS256", headers={"kid": "new"}),
        jwt.encode({"sub": "u_1", "exp": 9e9}, "z" * 40, "HS256", headers={"kid": "new"}),
    ]
    for one in forged:
        assert code_of(ours.verify, one, token_header(one)) is Code.UNAUTHENTICATED
    unsigned = jwt.encode({"sub": "u_1", "dev": "d_1", "exp": 9e9}, None, "none", headers={"kid": "new"})
    assert not ours.knows(token_header(unsigned))
    for garbage in ("", "a.b.c", "\xff.\xff.\xff", "." * 5000):
        assert code_of(token_header, garbage) is Code.UNAUTHENTICATED


def test_refresh_tokens_are_long_random_and_stored_only_as_a_hash():
    one, other = new_refresh_token(), new_refresh_token()
    assert one != other and len(one) > 40
    assert one not in refresh_hash(one) and len(refresh_hash(one)) == 64
