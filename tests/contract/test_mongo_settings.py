"""The options of a MongoDB URL work through the adapter, and what would be ignored in silence is refused."""

from __future__ import annotations

import asyncio
import datetime
import time
from pathlib import Path

import pytest
from channel_log import ChannelLog
from pymongo.errors import ConfigurationError
from support.mongo import faults
from support.mongo.certificates import Authority
from support.mongo.commands.call import Call
from support.mongo.login import Users
from support.mongo.roles import Member
from support.mongo.scripted import ScriptedServer, scripted_server
from support.mongo.topology import replica_set
from support.mongo.wire import Document

from chatkernel.errors import ChatError, Code, StoreRefuses
from chatkernel.storage.model import PageQuery
from chatkernel.storage.mongo.client import CONNECTING_MAX, OPERATION_TIMEOUT_MS, POOL_MAX, connect
from chatkernel.storage.mongo.store import MongoStore, open_mongo

CHANNEL = "local_gsettings"


async def opened(server: ScriptedServer, options: str = "", user: str = "") -> MongoStore:
    return await open_mongo(f"mongodb://{user}{server.host}/chat?{options}")


async def refusal(options: str, user: str = "") -> str:
    with pytest.raises(ChatError) as refused:
        await open_mongo(f"mongodb://{user}db.example/chat?{options}")
    assert refused.value.code is Code.INVALID_FIELD
    return refused.value.detail.removeprefix("store_url: ")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("nonsense=hunter2", "an option is not known"),
        ("timeoutMS=hunter2", "timeoutMS is not valid"),
        ("timeoutMS=0", "timeoutMS 0 would wait for ever"),
        ("maxPoolSize=-1", "maxPoolSize is not valid"),
        ("minPoolSize=9&maxPoolSize=5", "an option does not go with the others"),
        ("retryWrites=perhaps", "retryWrites is not valid"),
        ("readPreference=secondry", "readPreference is not valid"),
        ("readPreference=secondary&maxStalenessSeconds=60", "maxStalenessSeconds is at least 90"),
        (
            "readPreference=secondary&maxStalenessSeconds=100&heartbeatFrequencyMS=100000",
            "maxStalenessSeconds is at least 110",
        ),
        ("maxStalenessSeconds=120", "an option does not go with the others"),
        ("compressors=snappy", "compressors: for snappy install the package python-snappy"),
        ("compressors=zlib,zstd", "compressors: for zstd install the package backports.zstd"),
        ("compressors=hunter2", "compressors are zlib, snappy, zstd"),
        ("tls=true&tlsCAFile=/hunter2.pem", "tlsCAFile: the file cannot be read (No such file"),
        ("authMechanism=HUNTER2", "authMechanism is not valid"),
        ("authMechanism=MONGODB-X509&tls=true", "MONGODB-X509 needs tlsCertificateKeyFile"),
    ],
)
async def test_what_would_be_ignored_is_refused_by_name(
    options: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("snappy", "backports"):  # also where somebody has installed them
        monkeypatch.setitem(__import__("sys").modules, module, None)
    said = await refusal(options)
    assert said.startswith(why) and "hunter2" not in said.lower()


async def test_a_password_that_was_not_escaped_is_not_shown() -> None:
    for user in ("ann:hunt?er2@", "ann:hunt/er2@", "ann:hunt@er2@"):
        assert "hunt" not in await refusal("", user)


async def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    ca_file = Authority(tmp_path).ca_file
    said = await refusal(f"tls=true&tlsCertificateKeyFile={ca_file}")
    assert said == "an option does not go with the others (or a certificate with its key)"


def test_the_defaults_are_bounded_and_the_url_wins() -> None:
    plain = connect("mongodb://db.example/chat").options
    assert plain.timeout == OPERATION_TIMEOUT_MS / 1000
    assert (plain.pool_options.max_pool_size, plain.pool_options.min_pool_size) == (POOL_MAX, 0)
    assert plain.pool_options.max_connecting == CONNECTING_MAX
    assert connect("mongodb://db.example/chat?maxConnecting=3").options.pool_options.max_connecting == 3
    assert plain.retry_writes and plain.retry_reads
    chosen = connect(
        "mongodb://db.example/chat?timeoutMS=900&maxPoolSize=7&minPoolSize=2&retryWrites=false&retryReads=false"
    ).options
    assert chosen.timeout == 0.9
    assert (chosen.pool_options.max_pool_size, chosen.pool_options.min_pool_size) == (7, 2)
    assert not chosen.retry_writes and not chosen.retry_reads
    assert connect("mongodb://db.example/?minPoolSize=180").options.pool_options.max_pool_size == 180


async def test_waiting_for_a_connection_is_bounded_by_the_time_out_too() -> None:
    """`waitQueueTimeoutMS` says nothing beside it."""
    async with scripted_server() as server:
        store = await opened(server, "maxPoolSize=2&timeoutMS=400&waitQueueTimeoutMS=60000")
        try:
            server.freeze()
            began = time.monotonic()
            asked = await asyncio.gather(*(store.heads([CHANNEL]) for _ in range(10)), return_exceptions=True)
            assert time.monotonic() - began < 5
            assert all(isinstance(each, ChatError) and each.retryable for each in asked)
            server.thaw()
            assert await store.heads([CHANNEL]) == {}
        finally:
            server.thaw()
            await store.aclose()


@pytest.mark.parametrize(("option", "tries"), [("", 2), ("retryWrites=false", 1)])
async def test_writes_are_sent_again_unless_the_url_says_no(option: str, tries: int) -> None:
    async with replica_set() as replicas:
        store = await open_mongo(f"{replicas.url}&{option}" if option else replicas.url)
        try:
            await store.ensure_schema()
            replicas.primary.on("insert", faults.reset_before(), times=1)
            log = ChannelLog(store, CHANNEL)
            before = len(replicas.primary.seen("insert"))
            if tries == 1:
                with pytest.raises(ChatError) as failed:
                    await log.create("u_ann", "u_bob")
                assert failed.value.retryable
            else:
                await log.create("u_ann", "u_bob")
            assert len(replicas.primary.seen("insert")) - before == tries
        finally:
            await store.aclose()


async def test_one_failed_write_to_a_single_server_closes_the_connections_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It cannot repeat writes, and a driver that tries to closes those that it has just opened, too."""
    async with scripted_server() as server:
        store = await opened(server, "maxPoolSize=1")
        try:
            await store.ensure_schema()
            server.on("insert", faults.reset_before(), times=1)
            logs = [ChannelLog(store), ChannelLog(store)]  # the second waits for the first one's connection
            with caplog.at_level("DEBUG", "pymongo.connection"):
                asked = await asyncio.gather(
                    *(log.create("u_ann", "u_bob") for log in logs), return_exceptions=True
                )
                assert all(isinstance(each, ChatError) and each.retryable for each in asked)
                assert await store.heads([log.channel_id for log in logs]) == {}
            messages = [record.getMessage() for record in caplog.records]
            assert sum("Connection pool cleared" in message for message in messages) == 1
        finally:
            await store.aclose()


async def test_a_read_preference_moves_pages_of_history_and_nothing_else() -> None:
    async with replica_set() as replicas:
        url = f"{replicas.url}&readPreference=secondaryPreferred&maxStalenessSeconds=120&w=0&readConcernLevel=local"
        store = await open_mongo(url)
        try:
            await store.ensure_schema()
            log = ChannelLog(store, CHANNEL)
            await log.create("u_ann", "u_bob")
            await log.say("u_ann", "hi")
            (secondary,) = replicas.secondaries
            page = await store.page(PageQuery(CHANNEL, 0, 5))
            assert len(page.items) == 2
            await store.heads([CHANNEL])
            await store.grant(CHANNEL, "u_ann")
            await store.conversations("u_ann", cursor=None, limit=5, archived=False)
            reads = ("find", "aggregate")
            history = [each for name in reads for each in secondary.seen(name)]
            assert history and {each.get("find") for each in history} <= {"events", "reactions"}
            assert all(each["$readPreference"]["maxStalenessSeconds"] == 120 for each in history)
            for each in replicas.primary.seen("insert") + replicas.primary.seen("update"):
                assert each["writeConcern"] == {"w": "majority", "j": True}, each
            deciding = [each for name in reads for each in replicas.primary.seen(name)]
            assert deciding and all(each["readConcern"]["level"] == "majority" for each in deciding)
            assert all(
                each.get("$readPreference", {"mode": "primary"})["mode"] == "primary" for each in deciding
            )
        finally:
            await store.aclose()


@pytest.mark.parametrize(
    ("options", "bound_s"),
    [
        ("readPreference=secondaryPreferred", 90),
        ("readPreference=nearest&heartbeatFrequencyMS=100000", 110),
        ("readPreference=secondary&maxStalenessSeconds=300", 300),
        ("readPreference=primary", -1),
        ("w=1", -1),
    ],
)
async def test_how_old_a_page_of_history_may_be_is_bounded_unless_it_is_the_primarys(
    options: str, bound_s: int
) -> None:
    client = connect(f"mongodb://one,two/?replicaSet=rs&{options}")
    assert client.read_preference.max_staleness == bound_s
    await client.close()


async def test_a_secondary_that_is_further_behind_than_allowed_is_not_read() -> None:
    async with replica_set() as replicas:
        (secondary,) = replicas.secondaries
        assert isinstance(secondary.role, Member)
        secondary.role.behind = datetime.timedelta(seconds=200)
        store = await open_mongo(f"{replicas.url}&readPreference=secondaryPreferred&maxStalenessSeconds=120")
        try:
            await store.page(PageQuery(CHANNEL, 0, 5))
            assert not secondary.seen("find") and replicas.primary.seen("find")
        finally:
            await store.aclose()


async def test_messages_are_compressed() -> None:
    async with scripted_server() as server:
        offered: list[Document] = []

        async def note(call: Call) -> Document:
            offered.append(call.command)
            return await call.proceed()

        server.on("hello", note)
        store = await opened(server, "compressors=zlib&zlibCompressionLevel=6")
        try:
            await store.ensure_schema()
            assert ["zlib"] in [each.get("compression") for each in offered]
        finally:
            await store.aclose()


@pytest.mark.parametrize("mechanism", ["", "SCRAM-SHA-256", "SCRAM-SHA-1"])
async def test_a_password_logs_in(mechanism: str) -> None:
    async with scripted_server(users=Users(passwords={"ann": "p=ss,w@rd"})) as server:
        chosen = f"authSource=admin&authMechanism={mechanism}" if mechanism else "authSource=admin"
        store = await opened(server, chosen, "ann:p%3Dss%2Cw%40rd@")
        try:
            await store.ensure_schema()
            await store.check()
        finally:
            await store.aclose()
        with pytest.raises(StoreRefuses, match="refuses our credentials") as refused:
            await opened(server, chosen, "ann:wrong@")
        assert refused.value.retryable and "wrong" not in refused.value.detail


async def test_a_certificate_logs_in(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    users = Users(subjects=frozenset({"CN=chat,O=chatcluster"}))

    def options(name: str) -> str:
        key = authority.client_file(name)
        return (
            f"tls=true&tlsCAFile={authority.ca_file}&tlsCertificateKeyFile={key}&authMechanism=MONGODB-X509"
        )

    context = authority.server_context(asks_for_certificate=True)
    async with scripted_server(users=users, tls=context) as server:
        store = await opened(server, options("chat"))
        try:
            await store.ensure_schema()
            log = ChannelLog(store, CHANNEL)
            await log.create("u_ann", "u_bob")
            assert (await store.heads([CHANNEL]))[CHANNEL].seq == 1
        finally:
            await store.aclose()
        with pytest.raises(ChatError, match="refuses our credentials"):
            await opened(server, options("stranger"))


def test_the_driver_still_refuses_what_we_check_for() -> None:
    """Our bound of staleness is the driver's own."""
    from pymongo.max_staleness_selectors import _validate_max_staleness

    _validate_max_staleness(90, 10)
    with pytest.raises(ConfigurationError):
        _validate_max_staleness(89, 10)
