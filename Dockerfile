# syntax=docker/dockerfile:1
# python:3.12-slim-bookworm; dependabot renews the digest.
FROM python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254 AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
WORKDIR /src
RUN python -m venv /opt/devkit
COPY conf/requirements.lock conf/requirements.lock
RUN /opt/devkit/bin/pip install --require-hashes --only-binary=:all: -r conf/requirements.lock
COPY setup.py setup.cfg pyproject.toml MANIFEST.in README.md LICENSE ./
COPY devkit_api devkit_api
COPY templates templates
# The dependencies are there already, each with its hash; only the devkit itself is added. pip has done its work then:
# nothing can be installed into a root file system that cannot be written.
RUN /opt/devkit/bin/pip install --no-deps . && /opt/devkit/bin/pip check && /opt/devkit/bin/pip uninstall --yes pip
# Compiled now, as nothing can be written later; unchecked, as no file changes and copying an image may round its times.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/devkit/lib

FROM python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254
LABEL org.opencontainers.image.title="HLA-Compass devkit" \
      org.opencontainers.image.description="The HLA-Compass platform on your own machine" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.documentation="https://hla-compass.com/docs"
# No pip here either, and no file that gives its caller another user's rights.
RUN groupadd --gid 10001 devkit \
    && useradd --uid 10001 --gid devkit --home-dir /data --shell /usr/sbin/nologin devkit \
    && install -d -o devkit -g devkit -m 0700 /data \
    && install -d -o devkit -g devkit -m 0755 /modules \
    && pip uninstall --yes pip \
    && find / -xdev -perm /6000 -type f -exec chmod a-s {} + \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(idlelib|lib2to3|test|tkinter|turtledemo)/' \
        /usr/local/lib
COPY --from=build /opt/devkit /opt/devkit
ENV PATH=/opt/devkit/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    DEVKIT_HOST=0.0.0.0 \
    DEVKIT_PORT=4100 \
    DEVKIT_STATE_DIR=/data \
    DEVKIT_MODULES_DIR=/modules \
    DEVKIT_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 4100
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "devkit_api", "health", "--url", "http://127.0.0.1:4100"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "devkit_api"]
CMD ["serve"]
