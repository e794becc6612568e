"""The parts that tend one cluster, put together: they live as long as its task."""

from __future__ import annotations

import time
from collections.abc import Callable

from chatoperator.acting import Acting
from chatoperator.history import History
from chatoperator.kube.events import Regarding
from chatoperator.kube.kinds import POD, Object, labels_of
from chatoperator.kube.link import RedisLink
from chatoperator.kube.place import KubePlace, Whose
from chatoperator.kube.podview import ip_of, is_ready, is_stopping
from chatoperator.kube.probe import Prober, StoreWatch
from chatoperator.kube.refusals import Refusals
from chatoperator.kube.revisions import Revisions
from chatoperator.kube.shared import Shared
from chatoperator.kube.surroundings import Surroundings
from chatoperator.kube.telling import Telling
from chatoperator.kube.whose import is_of_before
from chatoperator.manifests import keys, names, sources
from chatoperator.manifests.inputs import Inputs, owner_of
from chatoperator.spec import ChatCluster

LIVED_S = 20.0
"""A pod that was ready and lived longer did not die young: containers take longer to start than processes."""


class Parts:
    """`cluster` and `inputs` are as of the last round."""

    def __init__(
        self,
        shared: Shared,
        cluster: ChatCluster,
        inputs: Inputs,
        refusals: Refusals,
        wake: Callable[[], None],
    ) -> None:
        self.cluster, self.inputs = cluster, inputs
        self._cache = shared.cache
        client, cache, owner = shared.client, shared.cache, owner_of(cluster, inputs)
        namespace = cluster.metadata.namespace
        self.history = History(LIVED_S)
        self.link = RedisLink(client.guard_now)
        self.prober, self.store = Prober(changed=wake), StoreWatch(changed=wake)
        self.revisions = Revisions(client, cache, inputs)
        self.place = KubePlace(
            client,
            cache,
            Whose(namespace, owner),
            self.revisions,
            self.prober,
            refusals=refusals,
            changed=wake,
        )
        self.telling = Telling(shared.events, Regarding(owner, namespace), shared.counts)
        self.acting = Acting(self.place, self.link, self.history, tell=self.telling.action, now=time.time)
        self.surroundings = Surroundings(
            shared, inputs.owner_uid, self.link, self.place, self.telling, refusals=refusals
        )

    async def aclose(self) -> None:
        self.place.close()
        self.prober.close()
        self.store.close()
        await self.link.aclose()
        self.surroundings.close()

    def secrets(self) -> set[str]:
        """Names of those that the cluster depends on; of one that names no server, nobody knows."""
        try:
            found, servers = set(keys.wanted(self.cluster)), sources.servers(self.cluster)
        except sources.SourceError:
            return set()
        for server in servers:
            found |= {key.name for key in (server.secret, server.tls.ca_secret) if key is not None}
        return found

    def pods(self, component: str = "") -> list[Object]:
        """Of the cluster; "" is of all its components. Not chat pods of a cluster of before; whose pods of other
        components are cannot be told for the moment that they are still there."""
        meta = self.cluster.metadata
        return [
            pod
            for pod in self._cache[POD].of(meta.namespace, meta.name)
            if component in ("", labels_of(pod).get(names.LABEL_COMPONENT))
            and not is_of_before(pod, meta.name, self.inputs.owner_uid)
        ]

    def address_of(self, component: str) -> str:
        """Of a pod that can be asked, the same one as long as it lasts; "" if there is none."""
        able = [ip_of(pod) for pod in self.pods(component) if is_ready(pod) and not is_stopping(pod)]
        return min(able, default="")
