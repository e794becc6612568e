"""Log-in as a MongoDB server has it: SCRAM-SHA-256 (RFC 7677), the older SCRAM-SHA-1, and X.509 by the certificate of
the connection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field

from bson import Binary
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document

ITERATIONS = 4096
"""The fewest that drivers accept: these passwords guard nothing."""

DIGESTS = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}


@dataclass(frozen=True, slots=True)
class Users:
    """Who may log in. With none, everybody may do everything, as on a server without access control."""

    passwords: dict[str, str] = field(default_factory=dict)
    subjects: frozenset[str] = frozenset()
    """Subjects of client certificates, as `CN=...,O=...`."""

    @property
    def needed(self) -> bool:
        return bool(self.passwords or self.subjects)


def _refused() -> CommandError:
    """One answer whatever was wrong, so that nobody learns which names there are."""
    return CommandError(ErrorCode.AUTHENTICATION_FAILED, "Authentication failed.")


@dataclass(slots=True)
class Login:
    """The log-in of one connection."""

    users: Users
    subject: str | None = None
    """Of the client's certificate, once TLS has checked it."""
    user: str | None = None
    """Who has logged in."""
    _claimed: str = ""
    _first: bytes = b""
    _salt: bytes = b""
    _nonce: str = ""
    _proven: bool = False
    _digest: str = "sha256"

    def start(self, command: Document) -> Document:
        """The client's name and nonce; we answer with salt and a longer nonce."""
        mechanism = command.get("mechanism")
        if mechanism not in DIGESTS:
            raise _refused()
        self._digest = DIGESTS[mechanism]
        message = bytes(command["payload"]).decode()
        bare = message.partition(",,")[2]
        fields = dict(re.findall(r"(\w)=([^,]*)", bare))
        self._claimed = fields["n"].replace("=2C", ",").replace("=3D", "=")
        self._nonce = fields["r"] + base64.b64encode(os.urandom(18)).decode()
        self._salt = os.urandom(16)
        answer = f"r={self._nonce},s={base64.b64encode(self._salt).decode()},i={ITERATIONS}".encode()
        self._first = bare.encode() + b"," + answer
        return {"conversationId": 1, "done": False, "payload": Binary(answer)}

    def go_on(self, command: Document) -> Document:
        """The client's proof; we answer with ours. Clients that want an empty last exchange get it."""
        payload = bytes(command["payload"])
        if self._proven and not payload:
            self.user = self._claimed
            return {"conversationId": 1, "done": True, "payload": Binary(b"")}
        without_proof, _, proof = payload.rpartition(b",p=")
        salted = hashlib.pbkdf2_hmac(self._digest, self._password(), self._salt, ITERATIONS)
        client_key = hmac.digest(salted, b"Client Key", self._digest)
        signed = self._first + b"," + without_proof
        signature = hmac.digest(hashlib.new(self._digest, client_key).digest(), signed, self._digest)
        expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        right_nonce = without_proof.endswith(b",r=" + self._nonce.encode())
        if not (right_nonce and self._claimed in self.users.passwords):
            raise _refused()
        if not hmac.compare_digest(expected, base64.b64decode(proof)):
            raise _refused()
        self._proven = True
        server_key = hmac.digest(salted, b"Server Key", self._digest)
        verifier = base64.b64encode(hmac.digest(server_key, signed, self._digest))
        return {"conversationId": 1, "done": False, "payload": Binary(b"v=" + verifier)}

    def by_certificate(self, command: Document) -> Document:
        """The certificate is the log-in."""
        if command.get("mechanism") != "MONGODB-X509" or self.subject not in self.users.subjects:
            raise _refused()
        if command.get("user", self.subject) != self.subject:
            raise _refused()
        self.user = self.subject
        return {"dbname": "$external", "user": self.subject}

    def _password(self) -> bytes:
        """With the older mechanism it is not the password that is salted, but a digest of it and the name."""
        password = self.users.passwords.get(self._claimed, os.urandom(8).hex())
        if self._digest == "sha1":
            return hashlib.md5(f"{self._claimed}:mongo:{password}".encode()).hexdigest().encode()
        return password.encode()
