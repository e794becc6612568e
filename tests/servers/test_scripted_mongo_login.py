"""Log-in and TLS, accepted and refused, as PyMongo sees them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError
from support.mongo.certificates import Authority
from support.mongo.client import connected
from support.mongo.errors import ErrorCode
from support.mongo.login import Users
from support.mongo.scripted import scripted_server
from support.mongo.topology import replica_set

USERS = Users(passwords={"chat": "p=ss,word"})


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("mechanism", [None, "SCRAM-SHA-256", "SCRAM-SHA-1"])
async def test_the_right_password_is_accepted(mechanism: str | None) -> None:
    async with scripted_server(users=USERS) as server:
        chosen = {} if mechanism is None else {"authMechanism": mechanism}
        async with connected(server.url, username="chat", password="p=ss,word", **chosen) as client:
            await client.chat.events.insert_one({"_id": 1})
        assert server.store.documents("chat.events") == [{"_id": 1}]


@pytest.mark.parametrize(("user", "password"), [("chat", "wrong"), ("nobody", "p=ss,word")])
async def test_a_wrong_name_or_password_is_refused_alike(user: str, password: str) -> None:
    async with (
        scripted_server(users=USERS) as server,
        connected(server.url, username=user, password=password) as client,
    ):
        with pytest.raises(OperationFailure, match=r"Authentication failed\.") as refused:
            await client.chat.events.insert_one({"_id": 1})
        assert refused.value.code == ErrorCode.AUTHENTICATION_FAILED
        assert server.store.documents("chat.events") == []


async def test_without_a_log_in_commands_are_refused() -> None:
    async with scripted_server(users=USERS) as server, connected(server.url) as client:
        await client.admin.command("ping")
        with pytest.raises(OperationFailure) as refused:
            await client.chat.events.find_one({})
        assert refused.value.code == ErrorCode.UNAUTHORIZED


async def test_a_replica_set_with_log_in_and_tls(authority: Authority) -> None:
    async with replica_set(users=USERS, tls=authority.server_context()) as replicas:
        options = {
            "tls": True,
            "tlsCAFile": str(authority.ca_file),
            "username": "chat",
            "password": "p=ss,word",
        }
        async with connected(replicas.url, **options) as client:
            await client.chat.events.insert_one({"_id": 1})
            replicas.step_down()
            await client.chat.events.insert_one({"_id": 2})
        assert len(replicas.store.documents("chat.events")) == 2


async def test_a_server_of_another_authority_is_refused_by_the_client(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"), "another authority")
    async with scripted_server(tls=other.server_context()) as server:
        options = {"tls": True, "tlsCAFile": str(authority.ca_file), "timeoutMS": 1000}
        async with connected(server.url, **options) as client:
            with pytest.raises(ServerSelectionTimeoutError, match="certificate verify failed"):
                await client.admin.command("ping")


async def test_a_client_without_tls_gets_nothing_from_a_server_with_it(authority: Authority) -> None:
    async with scripted_server(tls=authority.server_context()) as server:
        async with connected(server.url, timeoutMS=500) as client:
            with pytest.raises(ServerSelectionTimeoutError):
                await client.admin.command("ping")
        assert not server.commands


async def test_a_client_with_tls_gets_nothing_from_a_server_without_it(authority: Authority) -> None:
    async with scripted_server() as server:
        options = {"tls": True, "tlsCAFile": str(authority.ca_file), "timeoutMS": 500}
        async with connected(server.url, **options) as client:
            with pytest.raises(ServerSelectionTimeoutError):
                await client.admin.command("ping")


async def test_a_client_certificate_is_the_log_in(authority: Authority) -> None:
    users = Users(subjects=frozenset({"CN=chat,O=chatcluster"}))
    context = authority.server_context(asks_for_certificate=True)
    async with scripted_server(users=users, tls=context) as server:
        options = {"tls": True, "tlsCAFile": str(authority.ca_file), "authMechanism": "MONGODB-X509"}
        known = authority.client_file("chat")
        async with connected(server.url, tlsCertificateKeyFile=str(known), **options) as client:
            await client.chat.events.insert_one({"_id": 1})
        stranger = authority.client_file("stranger")
        async with connected(server.url, tlsCertificateKeyFile=str(stranger), **options) as client:
            with pytest.raises(OperationFailure) as refused:
                await client.chat.events.insert_one({"_id": 2})
        assert refused.value.code == ErrorCode.AUTHENTICATION_FAILED
        assert len(server.store.documents("chat.events")) == 1


async def test_without_a_client_certificate_the_hand_shake_is_refused(authority: Authority) -> None:
    context = authority.server_context(asks_for_certificate=True)
    async with scripted_server(tls=context) as server:
        options = {"tls": True, "tlsCAFile": str(authority.ca_file), "timeoutMS": 500}
        async with connected(server.url, **options) as client:
            with pytest.raises(PyMongoError):
                await client.admin.command("ping")
        assert not server.commands
