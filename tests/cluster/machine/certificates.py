"""Who is who in the cluster: an authority, certificates for every program, and kubeconfigs that use them."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.machine.layout import API_ADDRESS, API_URL, DNS_DOMAIN, SERVICES, Layout, Node

VALID_FOR = datetime.timedelta(days=30)
"""Clusters live for hours. Some days in the past, too, for clocks that jump."""
MASTERS = "system:masters"
SERVICE = "kubernetes.default.svc"

# Who has a kubeconfig: file name, group, user. Kubernetes' own roles are bound to these names.
USERS = (
    ("admin", MASTERS, "admin"),
    ("coredns", MASTERS, "coredns"),
    ("kwok", MASTERS, "kwok"),
    ("controllers", "", "system:kube-controller-manager"),
    ("scheduler", "", "system:kube-scheduler"),
    ("proxy", "", "system:kube-proxy"),
)


def make(layout: Layout, nodes: Sequence[Node]) -> None:
    """Those that are missing."""
    layout.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority(layout.pki)
    names = ["kubernetes", "kubernetes.default", SERVICE, f"{SERVICE}.{DNS_DOMAIN}", "localhost"]
    authority.issue(
        "apiserver", "kube-apiserver", names=[*names, API_ADDRESS, f"{SERVICES}.0.1", "127.0.0.1"]
    )
    authority.issue("kubelet-client", "apiserver-kubelet-client", MASTERS)
    authority.issue("front-proxy", "front-proxy")
    for name, group, user in USERS:
        authority.issue(name, user, group)
        _kubeconfig(layout, name)
    for node in nodes:
        authority.issue(node.name, f"system:node:{node.name}", "system:nodes", [node.name, node.address])
        _kubeconfig(layout, node.name)
    _service_account_keys(layout.pki)


class Authority:
    """Signs with `ca.key`, which is made with `ca.crt` when there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        certificate, key = folder / "ca.crt", folder / "ca.key"
        if not certificate.exists():
            private = _write_key(key)
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster-authority")])
            usage = x509.BasicConstraints(ca=True, path_length=0)
            built = _builder(name, name, private).add_extension(usage, critical=True)
            certificate.write_bytes(
                built.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            )
        self._certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
        loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded

    def issue(self, file: str, user: str, group: str = "", names: Sequence[str] = ()) -> None:
        """`file.crt` and `file.key`, for a client and, with names or addresses, for a server."""
        path = self._folder / f"{file}.crt"
        if path.exists():
            return
        private = _write_key(self._folder / f"{file}.key")
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        built = _builder(subject, self._certificate.subject, private).add_extension(
            x509.ExtendedKeyUsage(purposes), critical=False
        )
        if names:
            built = built.add_extension(
                x509.SubjectAlternativeName([_name(each) for each in names]), critical=False
            )
        signed = built.sign(self._key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID_FOR)
        .not_valid_after(now + VALID_FOR)
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    return key


def _service_account_keys(folder: Path) -> None:
    """What the tokens of service accounts are signed with."""
    public = folder / "accounts.pub"
    if not public.exists():
        key = _write_key(folder / "accounts.key")
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )


def _kubeconfig(layout: Layout, user: str) -> None:
    """In JSON, which is YAML."""
    path = layout.kubeconfig_of(user)
    if path.exists():
        return

    def data(name: str) -> str:
        return base64.b64encode((layout.pki / name).read_bytes()).decode()

    cluster = {"server": API_URL, "certificate-authority-data": data("ca.crt")}
    login = {"client-certificate-data": data(f"{user}.crt"), "client-key-data": data(f"{user}.key")}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": layout.name, "cluster": cluster}],
                "users": [{"name": user, "user": login}],
                "contexts": [{"name": layout.name, "context": {"cluster": layout.name, "user": user}}],
                "current-context": layout.name,
            },
            indent=2,
        )
    )
    path.chmod(0o600)
