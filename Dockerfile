# The one image of all parts: the pod says which command it runs (chatpod, apipod, chatworker, prober, chatoperator,
# chatctl). Debian and its Python, the locked packages, our wheel: a layer each, so that new code is a small one.
#
#   docker build -t chatcluster:0.1.0 .          (or: buildah build -t chatcluster:0.1.0 .)
#
# The tests make the same image without this file (tests/cluster/machine/images.py), and compare both.

# Any Debian 12: one with python3 and ca-certificates is taken as it is.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS base
RUN test -x /usr/bin/python3 -a -s /etc/ssl/certs/ca-certificates.crt || { \
      apt-get update -q \
      && apt-get install -q -y --no-install-recommends python3 ca-certificates \
      && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* \
           /usr/share/doc/* /usr/share/man/*; }
ENV PATH=/opt/chatcluster/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# What installs, and stays out of the image. A mirror of yours: --build-arg PIP_INDEX_URL=https://...
FROM base AS tools
ARG PIP_INDEX_URL
ARG PIP_CERT
RUN apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv && python3 -m venv /tools
COPY requirements.lock /src/
RUN /tools/bin/pip install --disable-pip-version-check --quiet --no-compile --require-hashes -r /src/requirements.lock

FROM tools AS packages
ARG PIP_INDEX_URL
ARG PIP_CERT
COPY requirements-operator.lock /mnt/
# Bytecode that is never compared with its source: a read-only root could not renew it, and layers have no times. Not of
# the Kubernetes client's models and typed calls: they are the larger part of all packages, and we load none of them.
RUN python3 -m venv --without-pip /opt/chatcluster \
    && /tools/bin/pip --python /opt/chatcluster/bin/python --disable-pip-version-check install --quiet --no-compile \
         --no-cache-dir --only-binary :all: --require-hashes -r /mnt/requirements-operator.lock \
    && /opt/chatcluster/bin/python -m compileall -q --invalidation-mode unchecked-hash \
         -x '/kubernetes/(aio/)?client/(api|models)/' /opt/chatcluster/lib

FROM packages AS ours
COPY pyproject.toml README.md LICENSE /src/
COPY chatkernel /src/chatkernel
COPY chatpod /src/chatpod
COPY apipod /src/apipod
COPY worker /src/worker
COPY prober /src/prober
COPY chatclient /src/chatclient
COPY operator /src/operator
RUN cd /src && /tools/bin/python -m hatchling build -t wheel -d /mnt \
    && /tools/bin/pip --python /opt/chatcluster/bin/python --disable-pip-version-check install --quiet --no-compile \
         --no-deps --no-index --root /ours /mnt/chatcluster-*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /ours /ours/opt/chatcluster/lib

FROM base
COPY --from=packages /opt/chatcluster /opt/chatcluster
COPY --from=ours /ours /
# Nobody's home: as a number, so that Kubernetes can see that it is not root.
USER 65532:65532
WORKDIR /
