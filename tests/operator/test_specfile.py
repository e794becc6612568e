"""A bad file is refused with its line, its field, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatkernel.protocol import Limits
from chatoperator.spec import ChatCluster, LimitsSpec
from chatoperator.specfile import FILE_MAX_BYTES, SpecError, load_cluster, parse_cluster

HEAD = "apiVersion: chatcluster.dev/v1alpha1\nkind: ChatCluster\nmetadata:\n  name: a\n"


def problems(text: str | bytes) -> list[str]:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(SpecError) as refused:
        parse_cluster(raw, "f.yaml")
    return str(refused.value).splitlines()


def test_the_example_is_accepted() -> None:
    example = Path(__file__).parents[2] / "examples" / "laptop.yaml"
    assert load_cluster(example).spec.chat_pods.replicas == 2


def test_defaults_fill_in_what_is_not_said() -> None:
    cluster = parse_cluster(HEAD.encode(), "f.yaml")
    assert cluster.spec.chat_pods.replicas == 2
    assert cluster.spec.redis.url is None


REPLICAS = "7: spec.chatPods.replicas: expected a whole number from 1 to 1 000, got "


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("chatPods:\n    replicas: 0", REPLICAS + "0"),
        ("chatPods:\n    replicas: two", REPLICAS + '"two"'),
        ("chatPods:\n    replicas: true", REPLICAS + "true"),
        ("chatPods:\n    replicas:", REPLICAS + "nothing"),
        ("chatPods:\n    replicas: [1]", REPLICAS + "a list"),
        (
            "drain: {deadlineSeconds: .inf}",
            "6: spec.drain.deadlineSeconds: expected a number above 0 to 3 600, got .inf",
        ),
        (
            "limits: {watchesMax: 1001}",
            "6: spec.limits.watchesMax: expected a whole number from 1 to 1 000, got 1001",
        ),
        ("drain: 5", "6: spec.drain: expected a mapping, got 5"),
        ("auth:\n    issuers: x", '7: spec.auth.issuers: expected a list, got "x"'),
        (
            "retention: {messages: 90}",
            "6: spec.retention.messages: expected text of 0 to 5 characters matching "
            "^[1-9][0-9]{0,3}[hd]$, got 90",
        ),
        ("pause: maybe", '6: spec.pause: expected true or false, got "maybe"'),
        ("pause: true\n  pause: false", "7: spec.pause: given twice (first in line 6)"),
        (
            "region: EU",
            "6: spec.region: expected text of 1 to 40 characters matching "
            '^[a-z]([-a-z0-9]*[a-z0-9])?$, got "EU"',
        ),
    ],
)
def test_each_mistake_is_told_with_line_field_and_what_is_allowed(body: str, told: str) -> None:
    assert problems(f"{HEAD}spec:\n  {body}\n") == ["f.yaml:" + told]


def test_an_unknown_field_gets_a_suggestion_and_the_list() -> None:
    (line,) = problems(HEAD + "spec:\n  chatpods: {}\n")
    assert line.startswith(
        "f.yaml:6: spec.chatpods: unknown field: did you mean chatPods? Allowed: apiPods, auth,"
    )


def test_all_problems_are_told_at_once_in_the_order_of_lines() -> None:
    found = problems(HEAD + "spec:\n  chatPods: {replicas: -1, nope: 1}\n  worker:\n    replicas: x\n")
    assert [line.split(":")[1] for line in found] == ["6", "6", "8"]


def test_rules_between_fields_are_told_where_the_field_is() -> None:
    (line,) = problems(HEAD + "spec:\n  presence:\n    heartbeatSeconds: 10\n    offlineSeconds: 12\n")
    assert line.startswith(
        "f.yaml:8: spec.presence.offlineSeconds: must be at least twice heartbeatSeconds, or"
    )


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://u:pw@s1,s2/chat/0", "rediss+cluster://u:pw@n1:7000,n2", "unix:///run/redis.sock"],
)
def test_redis_may_be_anywhere_that_the_kernel_reaches(url: str) -> None:
    raw = HEAD + f"spec:\n  redis:\n    url: {url}\n    keyPrefix: team-1\n"
    redis = parse_cluster(raw.encode(), "f.yaml").spec.redis
    assert (redis.url, redis.key_prefix) == (url, "team-1")


def test_what_is_wrong_with_a_redis_url_is_told_without_the_password() -> None:
    (line,) = problems(HEAD + "spec:\n  redis:\n    url: redis+cluster://u:hunter2@n1/1\n")
    assert line == "f.yaml:7: spec.redis.url: names a database: a cluster has only 0"
    (line,) = problems(HEAD + "spec:\n  redis:\n    keyPrefix: '{a}'\n")
    assert line.startswith("f.yaml:7: spec.redis.keyPrefix: ")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"- a\n", b"x", b"\xff\xfe\x00", b"a: [", b"a: 1\n---\nb: 2\n", b"a: &x [*x]\n", b"? [a]\n: b\n",
        b"{" * 5000, b"a" * (FILE_MAX_BYTES + 1), b"spec: !!python/object:os.system {}\n", b"a: \x00",
    ],
)  # fmt: skip
def test_what_is_no_cluster_at_all_is_refused_with_a_line(raw: bytes) -> None:
    assert all(line.startswith("f.yaml:") for line in problems(raw))


def test_a_missing_file_is_a_problem_of_that_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        load_cluster(tmp_path / "none.yaml")


@given(raw=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_nothing_but_spec_errors_ever_comes_out(raw: bytes) -> None:
    with pytest.raises(SpecError):
        parse_cluster(raw, "f.yaml")


def test_what_is_written_can_be_read_again() -> None:
    cluster = parse_cluster(HEAD.encode(), "f.yaml")
    assert parse_cluster(msgspec.yaml.encode(cluster), "f.yaml") == cluster


def test_limits_are_those_of_the_kernel_with_the_same_defaults() -> None:
    assert msgspec.structs.asdict(LimitsSpec()) == msgspec.structs.asdict(Limits())


def test_every_field_is_described() -> None:
    def undescribed(kind: msgspec.inspect.StructType, path: str) -> list[str]:
        found = []
        for field in kind.fields:
            inner = field.type
            if isinstance(inner, msgspec.inspect.StructType):
                found += undescribed(inner, f"{path}.{field.encode_name}")
            elif not isinstance(inner, msgspec.inspect.Metadata) and field.name not in (
                "labels",
                "annotations",
            ):
                found.append(f"{path}.{field.encode_name}")
        return found

    kind = msgspec.inspect.type_info(ChatCluster)
    assert isinstance(kind, msgspec.inspect.StructType)
    assert undescribed(kind, "") == []
