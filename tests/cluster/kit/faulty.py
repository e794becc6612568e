"""Our image with a chat pod whose event path can be cut: the real one, with faults (`support/faulty_chat_pod.py`)."""

from __future__ import annotations

from pathlib import Path

from support.town import BUILD

from cluster.kit.kubectl import Kubectl
from cluster.machine import images, layers
from cluster.machine.archive import Image
from cluster.machine.images import PRODUCT, VENV

FAULTY = f"{PRODUCT}:faulty"
AT_FIRST = "CHAT_TEST_FAULT"
"""A variable of chat pods: the fault that they are born with."""

_FILE = "/tmp/faults"
_COMMAND = f"""#!{VENV}/bin/python
import os
from pathlib import Path

os.environ["CHAT_TEST_FAULTS"] = "{_FILE}"
Path("{_FILE}").write_text(os.environ.get("{AT_FIRST}", ""))
import faulty_chat_pod

faulty_chat_pod.install()
faulty_chat_pod.main()
"""


def faulty_image() -> Image:
    """Of this checkout as it is now; what is not of the faults is cached already."""
    ours = images.product()

    def bring(mnt: Path) -> None:
        (mnt / "chatpod").write_text(_COMMAND)
        (mnt / "faulty_chat_pod.py").write_text(BUILD.read_text())

    to = f"{VENV}/bin"
    command = f"install -m 0755 /mnt/chatpod {to}/chatpod && install -m 0644 /mnt/faulty_chat_pod.py {to}/"
    faults = layers.on(ours.layers, "faulty", command, [_COMMAND, BUILD.read_text()], bring)
    return Image(FAULTY, [*ours.layers, faults], ours.config)


def have(kubectl: Kubectl, pod: str, fault: str) -> None:
    """From now on a running pod of that image has it: `deaf` to what others publish, `mute` itself."""
    kubectl("exec", pod, "--", "sh", "-c", f"echo {fault} > {_FILE}")
