"""From the resource to the settings file of one pod. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from chatkernel.protocol import Limits
from chatkernel.settings import (
    SOCKET_PATH,
    AuthSettings,
    DrainSettings,
    Issuer,
    LiveSettings,
    PresenceSettings,
    RateSettings,
    ServiceSettings,
)
from chatoperator.model import PodKind
from chatoperator.place import PodSpec
from chatoperator.spec import Auth, Spec, duration_s

RENEWALS_PER_LEASE = 5
"""Some may fail or come late before a pod is taken for dead."""


class Surroundings(Struct, frozen=True):
    """What pods are told about where they run, the same for all of them."""

    redis_url: str
    store_url: str
    secret_file: str
    api_url: str
    live_file: str
    host: str = "127.0.0.1"


def service_settings(pod: PodSpec, name: str, port: int, around: Surroundings) -> ServiceSettings:
    cluster, spec = pod.cluster, pod.cluster.spec
    is_chat = pod.kind is PodKind.CHAT
    return ServiceSettings(
        cluster=cluster.metadata.name,
        pod=name,
        revision=pod.revision,
        redis_url=around.redis_url,
        store_url=around.store_url,
        secret_file=around.secret_file,
        region=spec.region,
        host=around.host,
        port=port,
        public_url=f"ws://{around.host}:{port}{SOCKET_PATH}" if is_chat else around.api_url,
        key_prefix=spec.redis.key_prefix,
        capacity=spec.chat_pods.connections_per_pod,
        presence=PresenceSettings(
            heartbeat_interval_s=spec.presence.heartbeat_seconds,
            offline_after_s=spec.presence.offline_seconds,
            small_group_max=spec.presence.small_group_max,
        ),
        auth=_auth(spec.auth),
        lease_s=spec.chat_pods.lease_seconds,
        lease_renew_s=spec.chat_pods.lease_seconds / RENEWALS_PER_LEASE,
        hello_timeout_s=spec.chat_pods.hello_timeout_seconds,
        receipt_interval_s=spec.receipts.interval_seconds,
        receipt_members_max=spec.receipts.members_max,
        retention_s=duration_s(spec.retention.messages) if spec.retention.messages else 0,
        live_file=around.live_file,
    )


def live_settings(spec: Spec) -> LiveSettings:
    """What all pods of the cluster follow, of whatever revision they are."""
    auth = spec.auth
    return LiveSettings(
        limits=msgspec.convert(spec.limits, Limits, from_attributes=True),
        drain=DrainSettings(deadline_s=spec.drain.deadline_seconds, rate_per_s=spec.drain.rate_per_second),
        rates=RateSettings(
            login_attempts=auth.login_attempts,
            login_window_s=auth.login_window_seconds,
            requests_per_s=auth.requests_per_s,
            requests_burst=auth.requests_burst,
            user_requests_per_s=auth.user_requests_per_s,
            user_requests_burst=auth.user_requests_burst,
            signups_per_address=auth.signups_per_address,
        ),
    )


def _auth(auth: Auth) -> AuthSettings:
    return AuthSettings(
        access_token_ttl_s=auth.access_token_ttl_seconds,
        refresh_token_ttl_s=auth.refresh_token_ttl_seconds,
        ticket_ttl_s=auth.ticket_ttl_seconds,
        own_accounts=auth.own_accounts,
        issuers=[
            Issuer(
                issuer=issuer.issuer,
                jwks_url=issuer.jwks_url,
                audience=issuer.audience,
                username_claim=issuer.username_claim,
                jwks_cache_s=issuer.jwks_cache_seconds,
            )
            for issuer in auth.issuers
        ],
        allowed_origins=auth.allowed_origins,
    )
