"""Why a condition is what it is: one list for the operator, for its tests, and for the documentation."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Each with what it means and the next step of a person; "" when there is nothing to do."""

    meaning: str
    next_step: str

    def __new__(cls, value: str, meaning: str = "", next_step: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning, member.next_step = meaning, next_step
        return member

    # Available
    ENOUGH_READY_PODS = "EnoughReadyPods", "Chat and API pods are ready, and clients can come", ""
    TOO_FEW_READY_PODS = (
        "TooFewReadyPods",
        "Some pods are ready, and fewer than wanted",
        "Wait; if it lasts, see Degraded",
    )
    NO_READY_PODS = (
        "NoReadyPods",
        "No chat pod, or no API pod, is ready: nobody can come",
        "See Degraded, StorageReady and RegistryReady",
    )

    # Progressing
    AS_WANTED = "AsWanted", "Everything is as the spec says", ""
    STARTING = "Starting", "The first pods are starting", ""
    SCALING_UP = "ScalingUp", "Chat pods are being added", ""
    SCALING_DOWN = "ScalingDown", "Chat pods are being drained, and then go", ""
    ROLLING_OUT = "RollingOut", "Pods of the current revision replace those of an older one", ""
    ROLLOUT_WAITS = (
        "RolloutWaits",
        "The rollout goes on when messages are delivered again",
        "See DeliveryHealthy; `spec.rollout.gate: false` goes on without",
    )
    ROLLOUT_UNDONE = (
        "RolloutUndone",
        "The current revision did not work and was given up: the last good one runs",
        "Read `status.undone`, and change the spec; the next revision is tried at once",
    )
    REPLACING = "Replacing", "Pods that were lost or are condemned are being replaced", ""
    REBALANCING = "Rebalancing", "Pods with more than their share move clients to others", ""

    # Degraded
    ALL_WELL = "AllWell", "Nothing is wrong that the operator knows of", ""
    INVALID_SPEC = (
        "InvalidSpec",
        "The resource breaks a rule; what ran before goes on unchanged",
        "Correct the field that the message names",
    )
    IMAGE_UNAVAILABLE = (
        "ImageUnavailable",
        "A node cannot get the image",
        "Correct `spec.image` or `spec.imagePullSecrets`, or make the image available",
    )
    PODS_CRASH = "PodsCrash", "Pods end by themselves", "Read the log of the pod that the message names"
    PODS_NOT_READY = (
        "PodsNotReady",
        "Pods run and do not become ready",
        "Read the log of the pod that the message names",
    )
    DEPLOYMENT_STUCK = (
        "DeploymentStuck",
        "New API pods, workers or a new probe do not become ready; those of before go on",
        "Read the log of a new pod of the Deployment that the message names, and change the spec",
    )
    PODS_UNSCHEDULABLE = (
        "PodsUnschedulable",
        "No node has room for a pod, or none may have it",
        "Add nodes, or ask for less in `resources`, `nodeSelector` and the like",
    )
    QUOTA_EXCEEDED = (
        "QuotaExceeded",
        "A quota or limit of the namespace forbids a pod",
        "Raise the quota, or ask for less",
    )
    FORBIDDEN = (
        "Forbidden",
        "The operator lacks a right, or admission refuses what it makes",
        "Give the right that the message names: the chart's roles have all that are needed",
    )
    NAME_TAKEN = (
        "NameTaken",
        "An object of somebody else has the name of one of the cluster's, and is left alone",
        "Delete or rename it; or, if nobody else keeps it, give it to the cluster by the label "
        "`chatcluster.dev/cluster: NAME`",
    )
    NODE_LOST = (
        "NodeLost",
        "A node with pods does not answer; they are replaced elsewhere",
        "Look at the node",
    )
    TOO_FEW_FOR_LOAD = (
        "TooFewForLoad",
        "More connections than `autoscaling.max` pods are meant to hold",
        "Raise `spec.chatPods.autoscaling.max` or `connectionsPerPod`",
    )

    # Secrets: StorageReady, RegistryReady and Degraded
    SECRET_MISSING = (
        "SecretMissing",
        "A Secret, or a key of it, is not there",
        "Make the Secret that the message names, in the cluster's namespace",
    )
    SECRET_INVALID = (
        "SecretInvalid",
        "A Secret is empty, or holds what cannot be used",
        "Correct the value that the message names",
    )

    # StorageReady
    SCHEMA_READY = "SchemaReady", "The store answers, and its tables are those of this version", ""
    SCHEMA_PENDING = "SchemaPending", "The store's tables are being made or renewed", ""
    SCHEMA_FAILED = (
        "SchemaFailed",
        "The store's tables could not be made; it is tried again",
        "Read the message; the log of the schema Job has more",
    )
    SCHEMA_TOO_NEW = (
        "SchemaTooNew",
        "A newer version has made the store's tables",
        "Use that version, or restore a backup",
    )
    STORE_UNREACHABLE = (
        "StoreUnreachable",
        "The store does not answer; running chat goes on as far as it can",
        "Look at the store, its address, and what is between",
    )
    STORE_REFUSES = (
        "StoreRefuses",
        "The store answers, and does not let us in or cannot be used",
        "Correct user, password, TLS or rights as the message says",
    )
    DEVELOPMENT_STORE = (
        "DevelopmentStore",
        "The store is ready, and its data goes with its pod: not for production",
        "For production name your own in `spec.mongodb` or `spec.postgresql`",
    )

    # RegistryReady
    REGISTRY_REACHABLE = "RegistryReachable", "Redis answers", ""
    REGISTRY_UNREACHABLE = (
        "RegistryUnreachable",
        "Redis does not answer: nothing is scaled or drained; sending and history go on",
        "Look at Redis, its address, and what is between",
    )
    REGISTRY_REFUSES = (
        "RegistryRefuses",
        "Redis answers, and does not let us in or cannot be used",
        "Correct user, password, TLS, rights or version as the message says",
    )
    DEVELOPMENT_REDIS = (
        "DevelopmentRedis",
        "Redis answers, and is one pod without a replica: not for production",
        "For production name your own in `spec.redis`",
    )

    # DeliveryHealthy
    DELIVERING = "Delivering", "The probe's messages arrive from every pod at every other", ""
    NOT_DELIVERING = (
        "NotDelivering",
        "Messages of the probe do not arrive",
        "See `status.delivery`, and the pods that the message names",
    )
    NOT_MEASURED = "NotMeasured", "The probe has not measured yet", ""
    PROBE_SILENT = (
        "ProbeSilent",
        "The probe does not answer, so delivery is not known",
        "Look at the probe's pod and its log",
    )

    # Paused
    PAUSED = "Paused", "`spec.pause` is true: the operator only watches", "Set `spec.pause: false`"
    NOT_PAUSED = "NotPaused", "The operator acts", ""

    NOT_LOOKED_AT = "NotLookedAt", "The operator has not come to it yet", ""
