"""skaffold.yaml: fields that skaffold's schema has, and paths, images, values and kinds that are ours.

skaffold itself is in no registry of packages, so nothing here runs it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
ARTIFACTS: list[dict[str, Any]] = FILE["build"]["artifacts"]
(RELEASE,) = FILE["deploy"]["helm"]["releases"]
CHART = ROOT / RELEASE["chartPath"]
MANIFESTS = [ROOT / path for path in FILE["manifests"]["rawYaml"]]

DOCUMENTED: dict[str, set[str]] = {
    "": {"apiVersion", "kind", "metadata", "build", "manifests", "resourceSelector", "deploy"},
    ".metadata": {"name", "labels", "annotations"},
    ".build": {"artifacts", "local", "tagPolicy", "platforms", "insecureRegistries"},
    ".build.local": {"push", "tryImportMissing", "useDockerCLI", "useBuildkit", "concurrency"},
    ".build.artifacts[]": {"image", "context", "sync", "requires", "hooks", "platforms", "docker"},
    ".build.artifacts[].docker": {"dockerfile", "target", "buildArgs", "network", "cacheFrom", "noCache"},
    ".manifests": {"rawYaml", "kustomize", "helm", "kpt", "hooks", "transform", "validate", "output"},
    ".resourceSelector": {"allow", "deny"},
    ".resourceSelector.allow[]": {"groupKind", "image", "labels", "podSpec"},
    ".deploy": {
        "helm",
        "kubectl",
        "kpt",
        "docker",
        "statusCheck",
        "statusCheckDeadlineSeconds",
        "kubeContext",
    },
    ".deploy.kubectl": {"flags", "remoteManifests", "defaultNamespace", "hooks"},
    ".deploy.helm": {"releases", "flags", "hooks"},
    ".deploy.helm.releases[]": {
        *("name", "chartPath", "remoteChart", "repo", "version", "namespace", "createNamespace", "wait"),
        *("valuesFiles", "setValues", "setValueTemplates", "setValueFiles", "overrides", "upgradeOnInstall"),
        *("skipBuildDependencies", "skipTests", "useHelmSecrets", "recreatePods", "packaged", "dependsOn"),
    },
}
"""Names of fields by where they are, in the schema of v4beta13."""
FREE = {".metadata.labels", ".deploy.helm.releases[].setValueTemplates"}
"""Objects with keys of a person's choice."""


def unknown(value: object, path: str = "") -> list[str]:
    """Fields that no schema has."""
    if isinstance(value, list):
        return [each for item in value for each in unknown(item, f"{path}[]")]
    if not isinstance(value, dict) or path in FREE:
        return []
    strange = [f"{path}.{name}" for name in value if name not in DOCUMENTED.get(path, set())]
    return strange + [each for name, inner in value.items() for each in unknown(inner, f"{path}.{name}")]


def test_every_field_is_one_of_the_documented_schema() -> None:
    assert (FILE["apiVersion"], FILE["kind"]) == ("skaffold/v4beta13", "Config")
    assert unknown(FILE) == []


def test_every_path_that_is_named_is_there() -> None:
    for artifact in ARTIFACTS:
        context = ROOT / artifact.get("context", ".")
        assert (context / artifact["docker"]["dockerfile"]).is_file()
    assert (CHART / "Chart.yaml").is_file()
    assert MANIFESTS
    assert all(path.is_file() for path in MANIFESTS)


def test_what_it_builds_is_the_charts_image() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert [artifact["image"] for artifact in ARTIFACTS] == [values["image"]["repository"]]


def test_it_sets_values_that_the_chart_knows_to_an_image_that_it_builds() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    built = {re.sub(r"\W", "_", artifact["image"]) for artifact in ARTIFACTS}
    for path, template in RELEASE["setValueTemplates"].items():
        described = schema
        for key in path.split("."):
            described = described["properties"][key]
        assert described["type"] == "string", path
        (image,) = re.findall(r"^\{\{\.IMAGE_(?:REPO|TAG)_(\w+)\}\}$", template)
        assert image in built


def test_every_cluster_that_it_applies_gets_the_image_that_it_builds() -> None:
    """An operator of another image touches no pod of a cluster that names none."""
    definition = yaml.safe_load((ROOT / "crds" / "chatclusters.yaml").read_text())["spec"]
    told = [each["groupKind"] for each in FILE["resourceSelector"]["allow"] if each["image"]]
    for path in MANIFESTS:
        cluster = yaml.safe_load(path.read_text())
        assert cluster["kind"] == definition["names"]["kind"]
        assert f"{cluster['kind']}.{definition['group']}" in told
        assert cluster["spec"]["image"] in [artifact["image"] for artifact in ARTIFACTS]
