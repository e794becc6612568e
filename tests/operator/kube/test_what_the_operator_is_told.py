"""The operator's settings: what its environment says, and what is meant where it says nothing."""

from __future__ import annotations

from chatoperator.kube.main import read_settings


def test_the_lease_is_the_releases() -> None:
    assert read_settings({"CHAT_LEASE": "blue-chatcluster"}).lease == "blue-chatcluster"
    assert read_settings({}).lease == "chatcluster-operator"


def test_namespaces_are_named_once_and_none_is_all() -> None:
    assert read_settings({"CHAT_NAMESPACES": "b, a,,b"}).namespaces == ("a", "b")
    assert read_settings({"CHAT_NAMESPACES": ""}).namespaces == ()
