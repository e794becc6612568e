"""Chat pods, the revisions that they are of, and what reaches one of them."""

from __future__ import annotations

from chatoperator.manifests.inputs import Inputs, Manifest, Owner
from chatoperator.spec import ChatCluster


def revision_objects(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """The ConfigMap with the settings and the ControllerRevision with the pod's template, both named
    `names.of_revision`. They never change: what is there already is left as it is, also when this version of the
    operator would write it differently."""
    raise NotImplementedError


def template_of(revision: Manifest) -> Manifest:
    """A ControllerRevision's pod template, for `pod`."""
    raise NotImplementedError


def pod(template: Manifest, name: str, owner: Owner) -> Manifest:
    """A pod of the revision that `template` is of."""
    raise NotImplementedError


def pod_exposure(cluster: ChatCluster, pod_name: str, pod_uid: str) -> list[Manifest]:
    """What reaches this one pod from outside, owned by it: a Service and an Ingress or HTTPRoute. Empty without
    `spec.exposure`."""
    raise NotImplementedError
