"""The operator's small parts: data directory, control socket, the source of the resource, what it remembers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatkernel.protocol import Limits
from chatkernel.settings import DrainSettings, LiveSettings, RateSettings, ServiceSettings
from chatoperator.control import ControlError, ControlServer, Request, ask
from chatoperator.datadir import MARKER_ENV, SOCKET_PATH_MAX_BYTES, DataDir, UpError
from chatoperator.history import History
from chatoperator.logfiles import LOG_MAX_BYTES, LOGS_KEPT, bound_log, prepare_log
from chatoperator.minihttp import PodHttp
from chatoperator.model import PodKind, PodView
from chatoperator.place import PodSpec
from chatoperator.podsettings import Surroundings, live_settings, service_settings
from chatoperator.specfile import SpecError, parse_cluster
from chatoperator.specsource import DEFAULTS, SpecSource

HEAD = "apiVersion: chatcluster.dev/v1alpha1\nkind: ChatCluster\nmetadata:\n  name: a\nspec:\n  "


def test_a_directory_is_used_by_one_cluster_at_a_time(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path / "d"), DataDir(tmp_path / "d")
    first.create()
    first.lock()
    first.note_running("http://x")
    with pytest.raises(UpError, match=rf"already running on .*process {os.getpid()}, http://x"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_secrets_are_made_once_and_a_broken_file_is_told(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    made = data.load_secrets()
    assert DataDir(tmp_path).load_secrets() == made
    assert data.secrets.stat().st_mode & 0o077 == 0
    data.secrets.write_text("{")
    with pytest.raises(UpError, match="cannot be read"):
        data.load_secrets()


def test_the_control_socket_has_a_path_that_fits_and_leaves_no_folder_behind(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    data = DataDir(deep)
    data.create()
    data.lock()
    path = data.make_control_socket()
    assert len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert DataDir(deep).control_socket() == path, "everyone finds the same"
    data.unlock()
    assert not path.parent.exists()


def test_a_temporary_folder_that_was_tidied_away_is_made_anew(tmp_path: Path) -> None:
    data = DataDir(tmp_path / ("x" * 60) / ("y" * 60))
    data.create()
    data.lock()
    data.make_control_socket().parent.rmdir()  # the run was killed, and the system tidied up
    data.clean()
    path = data.make_control_socket()
    assert path.parent.is_dir()
    assert data.control_socket() == path
    data.unlock()


async def test_looking_for_a_cluster_where_none_was_makes_nothing(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    with pytest.raises(UpError, match="no cluster is running"):
        await ask(DataDir(deep).control_socket(), Request("status"))
    assert list(deep.iterdir()) == []


def test_what_a_killed_run_left_has_ended_before_the_next_goes_on(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "d")
    data.create()
    data.lock()
    mark = {**os.environ, MARKER_ENV: str(data.root)}
    child = subprocess.Popen(["sleep", "600"], env=mark, start_new_session=True)
    ended = subprocess.Popen(["true"], env=mark)
    ended.wait()
    for pid in (ended.pid, child.pid):
        data.note_pid(pid)
    assert data.clean() == 1
    assert child.wait(0) == -signal.SIGKILL, "it is not only told, it has ended"
    data.unlock()


async def test_control_answers_every_line_and_never_dies_of_one(tmp_path: Path) -> None:
    async def handle(request: Request) -> dict[str, Any]:
        if request.do == "kill":
            raise ControlError("no such pod")
        if request.do == "stop":
            raise ZeroDivisionError
        return {"did": request.do}

    path = tmp_path / "s"
    server = ControlServer(path, handle)
    await server.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(str(path))
        for line in (
            b"{",
            b"[]",
            b'{"do":"fly"}',
            b'{"do":"kill"}',
            b'{"do":"stop"}',
            b'{"do":"status","x":1}',
        ):
            writer.write(line + b"\n")
            answer = json.loads(await reader.readline())
            assert answer["ok"] is False
            assert answer["error"]
        writer.close()
        assert (await ask(path, Request("status")))["did"] == "status"
        with pytest.raises(ControlError, match="no such pod"):
            await ask(path, Request("kill"))
    finally:
        await server.aclose()
    with pytest.raises(UpError, match="no cluster is running"):
        await ask(path, Request("status"))


def test_the_file_is_followed_and_a_bad_edit_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(HEAD + "chatPods: {replicas: 3}\n")
    source = SpecSource(file, port=0)
    assert not source.poll()
    source.scale(5)
    assert source.current.spec.chat_pods.replicas == 5
    file.write_text(HEAD + "chatPods: {replicas: x}\n")
    assert not source.poll()
    assert "c.yaml:6: spec.chatPods.replicas" in source.problem
    assert source.current.spec.chat_pods.replicas == 5
    file.write_text(HEAD + "chatPods: {replicas: 2}\n  region: eu\n  apiPods: {port: 9}\n")
    assert source.poll()
    spec = source.current.spec
    assert (spec.chat_pods.replicas, spec.region, spec.api_pods.port) == (2, "local", 0)
    assert source.problem == ""
    file.unlink()
    assert not source.poll()
    assert source.problem
    with pytest.raises(SpecError):
        SpecSource(file)


def test_only_early_deaths_count_and_a_long_life_forgives(tmp_path: Path) -> None:
    def pod(name: str, **fields: Any) -> PodView:
        return PodView(name=name, kind=PodKind.CHAT, revision="r", **{"started_at": 0.0, **fields})

    history, key = History(), (PodKind.CHAT, "r")
    for at in (1.0, 2.0):
        history.note([pod(f"a{at}", started_at=at - 1)], at)
        history.note([pod(f"a{at}", started_at=at - 1, alive=False)], at)
    assert (history.failures[key].count, history.disturbed_at) == (2, 2.0)
    history.note([pod("b", ever_ready=True)], 3.0)
    history.note([pod("b", ever_ready=True, alive=False)], 30.0)
    assert history.failures[key].count == 0
    history.note([pod("c", ever_ready=True)], 31.0)
    history.note([pod("c", ever_ready=True, alive=False, stopping=True)], 32.0)
    assert history.failures[key].last_at == 30.0, "who was asked to end has not failed"


def test_logs_are_bounded_in_size_and_number(tmp_path: Path) -> None:
    for number in range(LOGS_KEPT + 5):
        file = tmp_path / f"chat-{number}.log"
        file.write_text("x")
        os.utime(file, (number, number))
    assert prepare_log(tmp_path, "chat-99") == tmp_path / "chat-99.log"
    assert len(list(tmp_path.glob("*.log"))) == LOGS_KEPT - 1
    big = tmp_path / "chat-99.log"
    with big.open("ab") as writer:
        writer.truncate(9 * 1024 * 1024)
        assert bound_log(big)
        writer.write(b"after")
    assert big.read_bytes() == b"after"


def test_a_log_that_cannot_be_copied_is_cut_all_the_same(tmp_path: Path) -> None:
    log, copy = tmp_path / "chat-1.log", tmp_path / "chat-1.log.1"
    copy.mkdir()  # as little to be written as a file on a full disk
    with log.open("wb") as writer:
        writer.truncate(LOG_MAX_BYTES + 1)
    assert bound_log(log)
    assert log.stat().st_size == 0


def test_logs_that_are_in_use_stay_however_old_they_are(tmp_path: Path) -> None:
    in_use = ["chat-1.log", "chat-1.log.1", "redis.log", "forker.log", "operator.log", "schema.log"]
    gone = [f"{kind}-{number}.log" for kind in ("chat", "api", "worker") for number in range(10, 30)]
    for age, name in enumerate([*in_use, *gone]):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (age, age))
    prepare_log(tmp_path, "chat-99", {"chat-1"})
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {*in_use, *gone[-(LOGS_KEPT - 1) :]}


def test_a_pods_settings_are_those_of_the_resource() -> None:
    around = Surroundings("redis://r", "sqlite:///d", "s.json", "http://api", "live.json")
    chat = service_settings(PodSpec(PodKind.CHAT, "rev", DEFAULTS), "chat-1", 20001, around)
    assert (chat.cluster, chat.pod, chat.revision, chat.port) == ("laptop", "chat-1", "rev", 20001)
    assert chat.public_url == "ws://127.0.0.1:20001/v1/socket"
    assert chat.live_file == "live.json"
    api = service_settings(PodSpec(PodKind.API, "rev", DEFAULTS), "api-1", 20002, around)
    assert api.public_url == "http://api"
    assert api.key_prefix == "chat"


EVERYTHING = """
chatPods: {connectionsPerPod: 7, helloTimeoutSeconds: 3, leaseSeconds: 10}
presence: {heartbeatSeconds: 2, offlineSeconds: 9, smallGroupMax: 4}
receipts: {intervalSeconds: 0.25, membersMax: 9}
auth: {ticketTtlSeconds: 5}
retention: {messages: 90d}
region: eu
"""
GIVEN_BY_NOTHING = {"log_level"}
FOR_PODS_OF_KUBERNETES = {
    *(
        "address",
        "api_url",
        "redis_url_file",
        "store_url_file",
        "redis_ca_file",
        "store_ca_file",
        "redis_insecure",
        "store_insecure",
        "directory_url",
        "directory_url_file",
        "directory_ca_file",
        "directory_insecure",
    )
}


def test_every_setting_of_a_pod_comes_from_the_resource_or_from_where_it_runs() -> None:
    body = EVERYTHING.strip().replace("\n", "\n  ")
    cluster = parse_cluster((HEAD + body).encode(), "c.yaml")
    around = Surroundings("redis://r", "sqlite:///d", "s.json", "http://api", "live.json", host="127.0.0.2")
    settings = service_settings(PodSpec(PodKind.CHAT, "rev", cluster), "chat-1", 20001, around)
    assert (settings.lease_s, settings.lease_renew_s, settings.hello_timeout_s) == (10, 2, 3)
    assert (settings.receipt_interval_s, settings.receipt_members_max) == (0.25, 9)
    assert settings.retention_s == 90 * 86_400
    same = {
        field.name
        for field in msgspec.structs.fields(ServiceSettings)
        if getattr(settings, field.name) == field.default
    }
    assert same == GIVEN_BY_NOTHING | FOR_PODS_OF_KUBERNETES | {"key_prefix", "live"}


NO_ANSWERS = [
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"x" * 70_000,
    b"",
]


@pytest.mark.parametrize("answer", NO_ANSWERS, ids=range(len(NO_ANSWERS)))
async def test_whatever_a_pod_answers_is_an_os_error_at_worst(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    http = PodHttp("127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(ConnectionError):
        await http.request("GET", "/readyz", timeout_s=1)
    http.close()
    server.close()


def test_what_pods_follow_is_the_resources_too() -> None:
    body = """limits: {nestingMaxDepth: 3}
  drain: {deadlineSeconds: 2, ratePerSecond: 3}
  auth: {loginAttempts: 7, requestsPerS: 8}"""
    live = live_settings(parse_cluster((HEAD + body).encode(), "c.yaml").spec)
    assert live.limits == Limits(nesting_max_depth=3)
    assert live.drain == DrainSettings(deadline_s=2, rate_per_s=3)
    assert live.rates == RateSettings(login_attempts=7, requests_per_s=8)
    assert live_settings(DEFAULTS.spec) == LiveSettings()
