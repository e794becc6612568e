"""What a cluster's Secrets hold: read when they change, and made once where they are ours.

Watches tell that a Secret has changed and never what is in it. So only what a resource names is ever here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import shutil
from pathlib import Path

import msgspec

from chatkernel.redis_url import RedisUrlError, parse_redis_url
from chatkernel.settings import SecretFile, SigningKey
from chatkernel.storage.url import StoreUrlError, scheme_of
from chatkernel.trust import TrustError, trusting_redis
from chatoperator.kube.cache import Cache
from chatoperator.kube.client import KubeClient
from chatoperator.kube.errors import Conflict, NotFound
from chatoperator.kube.kinds import SECRET, Object, uid_of, version_of
from chatoperator.kube.whose import foreign, is_of_before
from chatoperator.manifests import keys, names, ports, sources
from chatoperator.manifests.inputs import Inputs, Manifest
from chatoperator.spec import ChatCluster, SecretKey


class SecretProblem(Exception):
    """A Secret cannot be used. The message names it, its key and the field that asks for it, and never its value."""

    def __init__(self, message: str, *, missing: bool) -> None:
        super().__init__(message)
        self.missing = missing


class SecretReader:
    """Of one cluster: what was read is forgotten with it. Each Secret is read once for each of its versions."""

    def __init__(self, client: KubeClient, cache: Cache) -> None:
        self._client, self._cache = client, cache
        self._read: dict[tuple[str, str], tuple[int, Object]] = {}

    async def value(self, namespace: str, key: SecretKey, field: str) -> str:
        """Raises SecretProblem, and KubeError when the API server does not give it."""
        where = f"{field}: the Secret {key.name}"
        data = await self._data(namespace, key.name)
        if data is None:
            raise SecretProblem(f"{where} is not there", missing=True)
        encoded = data.get(key.key)
        if encoded is None:
            raise SecretProblem(f"{where} has no key {key.key}", missing=True)
        try:
            text = base64.b64decode(encoded, validate=True).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            raise SecretProblem(f"{where}: {key.key} is not text", missing=False) from None
        if not text:
            raise SecretProblem(f"{where}: {key.key} is empty", missing=False)
        return text

    async def _data(self, namespace: str, name: str) -> dict[str, str] | None:
        whole = await self.whole(namespace, name)
        return None if whole is None else whole.get("data") or {}

    async def whole(self, namespace: str, name: str) -> Object | None:
        """None: it is not there. Raises KubeError."""
        seen = self._cache[SECRET].get(namespace, name)
        if seen is None:
            self._read.pop((namespace, name), None)
            return None
        version, whole = self._read.get((namespace, name), (-1, {}))
        if version < version_of(seen):
            try:
                whole = await self._client.get(SECRET, namespace, name)
            except NotFound:
                return None
            self._read[namespace, name] = (version_of(whole), whole)
        return whole


class ClusterSecrets:
    """Of one cluster."""

    def __init__(self, client: KubeClient, cache: Cache, trust: Path) -> None:
        """`trust`: a directory for certificates, which libraries read from files: made when there is one."""
        self._client, self._cache, self._trust = client, cache, trust
        self._reader = SecretReader(client, cache)

    def close(self) -> None:
        """Nothing that the cluster needed is left."""
        shutil.rmtree(self._trust, ignore_errors=True)

    def foreign(self, cluster: ChatCluster, inputs: Inputs) -> dict[str, str]:
        """Those that have the name of one of ours and are somebody else's, and why they are."""
        found = {}
        for name in keys.wanted(cluster):
            seen = self._cache[SECRET].get(cluster.metadata.namespace, name)
            why = seen and foreign(seen, keys.ownership(cluster, inputs, name, uid_of(seen)))
            if why:
                found[name] = why
        return found

    def leaving(self, cluster: ChatCluster, inputs: Inputs) -> set[str]:
        """Those that are of a cluster of before, and will be gone in a moment."""
        meta = cluster.metadata
        seen = {name: self._cache[SECRET].get(meta.namespace, name) for name in keys.wanted(cluster)}
        return {
            name
            for name, one in seen.items()
            if one is not None and is_of_before(one, meta.name, inputs.owner_uid)
        }

    async def ensure(self, cluster: ChatCluster) -> list[str]:
        """Makes those that are ours and not there yet, or empty; the names of those that were made. Raises
        KubeError."""
        made = []
        for name in keys.wanted(cluster):
            try:
                if self._cache[SECRET].get(cluster.metadata.namespace, name) is None:
                    self._cache[SECRET].put(await self._client.create(_generated(cluster, name)))
                elif not await self._fill(cluster, name):
                    continue
            except (Conflict, NotFound):
                continue  # another has made, changed or deleted it just now: never overwritten, and looked at again
            made.append(name)
        return made

    async def _fill(self, cluster: ChatCluster, name: str) -> bool:
        """Whether there was nothing in it. What holds anything is a person's to mend: there may be a key in it."""
        namespace = cluster.metadata.namespace
        whole = await self._reader.whole(namespace, name)
        if whole is None or whole.get("data"):
            return False
        # Only if it is still the empty one: the API server compares.
        same = {key: whole["metadata"][key] for key in ("uid", "resourceVersion")}
        body = {"metadata": same, "data": _generated(cluster, name)["data"]}
        self._cache[SECRET].put(await self._client.patch(SECRET, namespace, name, body))
        return True

    async def signing_keys(self, cluster: ChatCluster) -> SecretFile:
        """Raises SecretProblem and KubeError."""
        name = names.keys(cluster.metadata.name)
        key = SecretKey(name=name, key=names.KEYS_KEY)
        text = await self._reader.value(cluster.metadata.namespace, key, "signing keys")
        try:
            return msgspec.json.decode(text, type=SecretFile)
        except msgspec.DecodeError:
            message = f"signing keys: the Secret {name}: {names.KEYS_KEY} holds no keys"
            raise SecretProblem(message, missing=False) from None

    async def redis(self, cluster: ChatCluster) -> tuple[str, tuple[int, ...]]:
        """Its URL with whom to trust, and the ports that it is reached at. Raises SecretProblem and KubeError."""
        source = sources.redis(cluster)
        url, field = await self._url(cluster, source)
        try:
            parse_redis_url(url)
            tls = source.tls
            ca_file = await self._ca_file(cluster, tls.ca_secret, f"spec.{source.component}.tls.caSecret")
            return trusting_redis(url, ca_file, insecure=tls.insecure_skip_verify), ports.redis_ports(url)
        except (RedisUrlError, TrustError) as error:
            raise SecretProblem(f"{field} {error}", missing=False) from error

    async def store_ports(self, cluster: ChatCluster) -> tuple[int, ...]:
        """Where the stores are reached, if their URLs can be some. Empty: at any port. Raises SecretProblem and
        KubeError."""
        found = [await self._ports_of(cluster, source) for source in sources.stores(cluster)]
        return tuple(sorted({port for each in found for port in each})) if all(found) else ()

    async def _ports_of(self, cluster: ChatCluster, source: sources.Source) -> tuple[int, ...]:
        url, field = await self._url(cluster, source)
        if scheme_of(url) != source.component:
            raise SecretProblem(f"{field} must begin with {source.component}://", missing=False)
        try:
            found = ports.store_ports(url)
        except StoreUrlError as error:
            raise SecretProblem(f"{field} {error}", missing=False) from error
        await self._ca_file(cluster, source.tls.ca_secret, f"spec.{source.component}.tls.caSecret")
        return found

    async def _url(self, cluster: ChatCluster, source: sources.Source) -> tuple[str, str]:
        """And what a problem with it begins with."""
        if source.secret is None:
            return source.url, f"spec.{source.component}.url"
        field = f"spec.{source.component}.urlFrom.secret"
        url = await self._reader.value(cluster.metadata.namespace, source.secret, field)
        return url, f"{field}: {source.secret.key} of the Secret {source.secret.name}"

    async def _ca_file(self, cluster: ChatCluster, key: SecretKey | None, field: str) -> str:
        if key is None:
            return ""
        text = await self._reader.value(cluster.metadata.namespace, key, field)
        if "BEGIN CERTIFICATE" not in text:
            raise SecretProblem(
                f"{field}: {key.key} of the Secret {key.name} is no PEM certificate", missing=False
            )
        # Named after what it holds: another certificate is another URL, and so another connection.
        file = self._trust / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.crt"
        if not file.exists():
            self._trust.mkdir(exist_ok=True)
            file.write_text(text)
        return str(file)


def _generated(cluster: ChatCluster, name: str) -> Manifest:
    if name == names.development(cluster.metadata.name):
        return keys.development_secret(cluster, secrets.token_urlsafe(24))
    made = SecretFile([SigningKey(f"k-{secrets.token_hex(4)}", secrets.token_urlsafe(48))])
    return keys.keys_secret(cluster, made)
