"""Whether an object that is there is the cluster's, or only has the name of one of its own. Pure.

By its controller it is. Without one the label says so, which a person can give. The label alone does not make ours
what another controller keeps; of what outlives the cluster (its keys) that may be somebody who knows what he does.

What belongs to a ChatCluster of this name that was deleted is nobody else's, and not ours either: it goes
in a moment, one object before the other. Were some of it taken over, a Redis could go on with a password that is
made anew, and keys that were to go would stay.
"""

from __future__ import annotations

from chatoperator.kube.errors import Foreign
from chatoperator.kube.kinds import Object, labels_of, name_of
from chatoperator.manifests.names import LABEL_CLUSTER
from chatoperator.spec import KIND

TAKEN = 409
"""As the API server would say it."""


def foreign(live: Object, wanted: Object) -> str:
    """Why it is not the cluster's, as the end of a sentence; "" if it is. `wanted`: the manifest of that name."""
    cluster, ours, has = labels_of(wanted)[LABEL_CLUSTER], _controller(wanted), _controller(live)
    if has is not None and has in ((KIND, cluster), ours):
        return ""
    if has is not None and ours is not None:
        return f"belongs to {has[0]} {has[1]}"
    if labels_of(live).get(LABEL_CLUSTER) != cluster:
        return f"has no label {LABEL_CLUSTER}={cluster}"
    return ""


def is_of_before(live: Object, cluster: str, uid: str) -> bool:
    """It belongs to another ChatCluster of this name than to the one that has this UID."""
    owner = _controller_of(live)
    return (
        owner is not None
        and (owner.get("kind"), owner.get("name")) == (KIND, cluster)
        and owner.get("uid") != uid
    )


def refuse_foreign(live: Object, wanted: Object) -> None:
    """Raises Foreign."""
    why = foreign(live, wanted)
    if why:
        raise Foreign(f"{wanted['kind']} {name_of(wanted)} {why}", TAKEN)


def _controller(whole: Object) -> tuple[str, str] | None:
    """Kind and name."""
    owner = _controller_of(whole)
    return None if owner is None else (str(owner.get("kind")), str(owner.get("name")))


def _controller_of(whole: Object) -> Object | None:
    """Of owners that are none there may be many."""
    owner: Object
    for owner in whole["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            return owner
    return None
