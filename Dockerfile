# All programs of Callboard, one target each: agent, nameserver, fileserver, hub, gateway, sidecar,
# issuer; the database of the compose profile `postgres` and the TURN server of `turn`.
#
# Stages: base (user, directories, bytecode) -> builder (pip, build backend) -> venv (locked
# dependencies) -> wheel (this project) -> runtime -> one target per program. The gateway has a venv
# with more in it and a helper in C.
# No `# syntax` line: a registry may not answer. No instruction here needs more than the oldest
# BuildKit in use (engine 20.10).
ARG BASE_IMAGE=python:3.13-slim-trixie

FROM ${BASE_IMAGE} AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:$PATH
RUN groupadd --system --gid 10001 callboard \
 && useradd --system --uid 10001 --gid callboard --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin callboard \
 && install -d -o callboard -g callboard -m 0750 /data /exchange \
 && install -d -m 0755 /etc/consul.d
# The root is read-only at run time and neither base brings the standard library's bytecode:
# without this line every start and every health check would compile it anew.
RUN python3 -m compileall -q -j 0 \
    -x '/(test|tests|idlelib|turtledemo|ensurepip|site-packages|dist-packages)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# `build-ca` is a CA bundle for builds behind a private CA; empty or absent: the image's own.
FROM base AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
COPY constraints-build.txt /locks/
RUN --mount=type=secret,id=build-ca --mount=type=cache,id=callboard-pip,target=/root/.cache/pip \
    if [ -s /run/secrets/build-ca ]; then export PIP_CERT=/run/secrets/build-ca; fi; \
    python3 -m venv /opt/build \
 && /opt/build/bin/pip install -q --require-hashes -r /locks/constraints-build.txt

FROM builder AS venv
COPY constraints-image.txt /locks/
RUN --mount=type=secret,id=build-ca --mount=type=cache,id=callboard-pip,target=/root/.cache/pip \
    if [ -s /run/secrets/build-ca ]; then export PIP_CERT=/run/secrets/build-ca; fi; \
    python3 -m venv --without-pip /opt/venv \
 && /opt/build/bin/pip --python /opt/venv/bin/python install -q --no-compile \
    --require-hashes --only-binary :all: -r /locks/constraints-image.txt \
 && python3 -m compileall -q -j 0 /opt/venv/lib

FROM venv AS gateway-venv
COPY constraints-gateway.txt /locks/
RUN --mount=type=secret,id=build-ca --mount=type=cache,id=callboard-pip,target=/root/.cache/pip \
    if [ -s /run/secrets/build-ca ]; then export PIP_CERT=/run/secrets/build-ca; fi; \
    /opt/build/bin/pip --python /opt/venv/bin/python install -q --no-compile \
    --require-hashes --only-binary :all: -r /locks/constraints-gateway.txt \
 && python3 -m compileall -q -j 0 /opt/venv/lib

FROM base AS fanout
RUN apt-get -q update \
 && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends gcc libc6-dev
COPY services/callboard/gateway/fanout/fanout.c /src/
RUN gcc -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -o /_fanout.so /src/fanout.c

FROM builder AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY libs/ libs/
COPY services/ services/
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation --no-index -w /wheel .

FROM base AS runtime
COPY --from=venv /opt/venv /opt/venv
# mounted, not copied: the layer that changes with each edit holds this project's files only
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    --mount=type=bind,from=builder,source=/opt/build,target=/opt/build \
    /opt/build/bin/pip --python /opt/venv/bin/python install -q --no-deps --no-index \
    --root-user-action ignore --disable-pip-version-check --no-cache-dir --compile /wheel/*.whl
WORKDIR /data
USER 10001:10001
STOPSIGNAL SIGTERM

FROM runtime AS agent
EXPOSE 8300 8301 8301/udp 8500
ENTRYPOINT ["callboard", "agent"]
CMD ["-dev"]

FROM runtime AS nameserver
EXPOSE 53 53/udp
ENTRYPOINT ["callboard", "nameserver"]
CMD ["-help"]

FROM runtime AS fileserver
EXPOSE 1443
ENTRYPOINT ["callboard", "fileserver"]
CMD ["-help"]

FROM runtime AS hub
RUN install -d -m 0700 /data/callboard-hub
EXPOSE 8800 8801
ENTRYPOINT ["callboard", "hub"]
CMD ["-help"]

FROM base AS gateway
COPY --from=gateway-venv /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    --mount=type=bind,from=fanout,source=/_fanout.so,target=/_fanout.so \
    --mount=type=bind,from=builder,source=/opt/build,target=/opt/build \
    /opt/build/bin/pip --python /opt/venv/bin/python install -q --no-deps --no-index \
    --root-user-action ignore --disable-pip-version-check --no-cache-dir --compile /wheel/*.whl \
 && cp /_fanout.so /opt/venv/lib/python3*/site-packages/callboard/gateway/fanout/
WORKDIR /data
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8889 8890 8088 8188 8189 8189/udp 5002/udp 5004/udp
ENTRYPOINT ["callboard", "gateway"]
CMD ["-help"]

# GStreamer's bindings for Python are Debian's, and so is the Python of this one.
FROM base AS sidecar
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/callboard GST_REGISTRY=/opt/gstreamer/registry.bin
RUN apt-get -q update \
 && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
    python3-gi python3-cryptography gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base \
    gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# what plugins there are is looked up once: at run time the root cannot be written
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    install -d /opt/gstreamer /opt/callboard \
 && /usr/bin/python3 -c 'import gi; gi.require_version("Gst", "1.0"); from gi.repository import Gst; Gst.init()' \
 && /usr/bin/python3 -m zipfile -e /wheel/*.whl /opt/callboard \
 && /usr/bin/python3 -m compileall -q -j 0 /opt/callboard
ENV GST_REGISTRY_UPDATE=no
WORKDIR /data
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8090
ENTRYPOINT ["/usr/bin/python3", "-m", "callboard.sidecar"]
CMD ["-help"]

# A volume takes owner and mode from the directory it is mounted on: one for each program.
FROM runtime AS issuer
USER root
RUN for program in agent-1 agent-2 agent-3 agent-4 nameserver fileserver hub hub-2 gateway \
        sidecar coturn; do \
      install -d -o callboard -g callboard -m 0750 "/exchange/$program"; done
USER 10001:10001
ENTRYPOINT ["callboard", "issuer"]
CMD ["-help"]

# PostgreSQL of Debian's packages. (It would make a cluster while it is installed.)
FROM base AS postgres
RUN apt-get -q update \
 && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends postgresql-common \
 && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
 && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends postgresql \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
 && install -d -o callboard -g callboard -m 0750 /access
COPY --chmod=0755 services/postgres/start.sh /usr/local/bin/start-postgres
USER 10001:10001
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["start-postgres"]

# coturn of Debian's packages. Its file may bind ports below 1024, and for that it could not be run
# without any capability: the copy may not.
FROM base AS coturn
RUN apt-get -q update \
 && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends coturn openssl \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
 && cp /usr/bin/turnserver /usr/local/bin/turnserver \
 && install -d -o callboard -g callboard -m 0750 /access
COPY --chmod=0755 services/coturn/start.sh /usr/local/bin/start-coturn
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 3478 3478/udp 5349
ENTRYPOINT ["start-coturn"]
