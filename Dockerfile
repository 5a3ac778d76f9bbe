# All programs of Callboard, one target each: agent, nameserver, fileserver, issuer.
#
# Stages: base (user, directories, bytecode) -> builder (pip, build backend) -> venv (locked
# dependencies) -> wheel (this project) -> runtime -> one target per program.
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

# A volume takes owner and mode from the directory it is mounted on: one for each program.
FROM runtime AS issuer
USER root
RUN for program in agent-1 agent-2 agent-3 agent-4 nameserver fileserver; do \
      install -d -o callboard -g callboard -m 0750 "/exchange/$program"; done
USER 10001:10001
ENTRYPOINT ["callboard", "issuer"]
CMD ["-help"]
