"""Image archives (OCI image layout in a tar) without a registry and without a daemon."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cluster.machine.layers import Layer

MEDIA = "application/vnd.oci.image"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """`name` with its tag, as pods name it; `config` as OCI specifies it: Entrypoint, Cmd, Env, User."""

    name: str
    layers: Sequence[Layer]
    config: Mapping[str, object] = field(default_factory=dict)

    def renamed(self, name: str) -> Image:
        """The same under another name: nothing has to be loaded but that."""
        return Image(name, self.layers, self.config)

    @property
    def digest(self) -> str:
        """Of its manifest: what a container runtime knows it by."""
        return _digest(self._manifest())

    def write(self, out: IO[bytes], without: Collection[str] = ()) -> None:
        """The archive; layers whose digests the reader has already can be left out."""
        with tarfile.open(fileobj=out, mode="w|") as archive:
            _put(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            written = set(without)
            for layer in self.layers:
                if layer.digest not in written:
                    written.add(layer.digest)
                    archive.add(layer.path, _blob(layer.digest))
            for content in (self._config(), self._manifest()):
                _put(archive, _blob(_digest(content)), content)
            _put(archive, "index.json", json.dumps(self._index()).encode())

    def save(self, path: Path) -> None:
        with path.open("wb") as out:
            self.write(out)

    def _config(self) -> bytes:
        machine = platform.machine()
        told = {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": dict(self.config),
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in self.layers]},
        }
        return json.dumps(told).encode()

    def _manifest(self) -> bytes:
        layers = [
            {"mediaType": f"{MEDIA}.layer.v1.tar", "digest": layer.digest, "size": layer.size}
            for layer in self.layers
        ]
        kind = f"{MEDIA}.manifest.v1+json"
        config = _described(self._config(), f"{MEDIA}.config.v1+json")
        return json.dumps(
            {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
        ).encode()

    def _index(self) -> dict[str, object]:
        manifest = _described(self._manifest(), f"{MEDIA}.manifest.v1+json")
        tag = self.name.rpartition(":")[2]
        names = {"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag}
        return {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names}]}


def _described(content: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
