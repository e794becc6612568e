"""etcd, the API server, the controllers, the scheduler and DNS, all in the cluster's first namespace."""

from __future__ import annotations

from pathlib import Path

from cluster.machine.layout import API_ADDRESS, DNS_DOMAIN, SERVICES, Layout, entering
from cluster.machine.processes import Processes, until
from cluster.machine.shell import succeeds

ETCD, API_SERVER, CONTROLLERS, SCHEDULER, DNS = "etcd", "apiserver", "controllers", "scheduler", "coredns"
ETCD_URL = "http://127.0.0.1:2379"
READY_S = 120.0

NODE_LOST_S = 20
"""Without a word from a kubelet for so long, its node is NotReady (Kubernetes: 50 s). Kubelets speak every 5 s."""


class ControlPlane:
    def __init__(self, layout: Layout, processes: Processes, programs: Path) -> None:
        self._layout, self._processes, self._programs = layout, processes, programs

    def start(self) -> None:
        """What does not run of it. Returns when the API answers; the rest comes up meanwhile."""
        self._etcd()
        self.start_api_server()
        self._controllers()
        self._scheduler()
        self._dns()

    def start_api_server(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        pki = self._layout.pki
        self._start(
            API_SERVER,
            "kube-apiserver",
            f"--etcd-servers={ETCD_URL}",
            f"--bind-address={API_ADDRESS}",
            f"--advertise-address={API_ADDRESS}",
            f"--service-cluster-ip-range={SERVICES}.0.0/16",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/kubelet-client.crt",
            f"--kubelet-client-key={pki}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={pki}/ca.crt",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki}/front-proxy.crt",
            f"--proxy-client-key-file={pki}/front-proxy.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki}/accounts.pub",
            f"--service-account-signing-key-file={pki}/accounts.key",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
        )
        log = self._processes.log(API_SERVER)
        until(self._runs_and_answers, READY_S, f"the API server: see {log}")

    def _runs_and_answers(self) -> bool:
        """Raises `MachineError` when it has ended: there is nothing to wait for."""
        self._processes.running(API_SERVER)
        return self.answers()

    def answers(self) -> bool:
        return succeeds(*self._kubectl("get", "--raw", "/readyz"))

    def _kubectl(self, *arguments: str) -> list[str | Path]:
        config = f"--kubeconfig={self._layout.kubeconfig}"
        return [
            *entering(self._layout.name),
            self._programs / "kubectl",
            config,
            "--request-timeout=5s",
            *arguments,
        ]

    def _start(self, name: str, program: str, *arguments: str) -> None:
        self._processes.start(name, [*entering(self._layout.name), self._programs / program, *arguments])

    def _etcd(self) -> None:
        peer = "http://127.0.0.1:2380"
        self._start(
            ETCD,
            "etcd",
            "--name=only",
            f"--data-dir={self._layout.state}/etcd",
            f"--listen-client-urls={ETCD_URL}",
            f"--advertise-client-urls={ETCD_URL}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=only={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _controllers(self) -> None:
        pki = self._layout.pki
        self._start(
            CONTROLLERS,
            "kube-controller-manager",
            *self._client("controllers"),
            f"--node-monitor-grace-period={NODE_LOST_S}s",
            "--use-service-account-credentials",
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/accounts.key",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
        )

    def _scheduler(self) -> None:
        self._start(SCHEDULER, "kube-scheduler", *self._client("scheduler"))

    def _client(self, user: str) -> list[str]:
        config = self._layout.kubeconfig_of(user)
        return [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ]

    def _dns(self) -> None:
        """For the names of Services; there is nobody to ask for others."""
        corefile = self._layout.state / "Corefile"
        corefile.write_text(
            f""".:53 {{
    bind {API_ADDRESS}
    errors
    health 127.0.0.1:8085
    ready 127.0.0.1:8185
    cache 5
    kubernetes {DNS_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {self._layout.kubeconfig_of("coredns")}
        ttl 5
    }}
}}
"""
        )
        self._start(DNS, "coredns", "-conf", str(corefile))
