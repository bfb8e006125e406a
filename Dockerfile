# scep-ra as a container: non-root, and at home on a read-only root file system.
#
#   docker build -t scep-ra .
#   docker run --rm -v scep-ra:/var/lib/scep-ra scep-ra init /var/lib/scep-ra --yes \
#       --listen 0.0.0.0:8080 --public-url http://ra.example:8080
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#       -v scep-ra:/var/lib/scep-ra -p 8080:8080 scep-ra
#
# The base is pinned by its tag; pin it by digest as well (python:…@sha256:…) where you build for production.

ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
RUN python -m venv /opt/scep-ra
ENV PATH=/opt/scep-ra/bin:$PATH
# The locked dependencies change seldom and make a layer of their own.
COPY requirements.txt requirements-build.txt ./
RUN pip install --require-hashes --requirement requirements.txt --requirement requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY ra ra
COPY connectors connectors
RUN pip install --no-deps --no-build-isolation . \
    && pip uninstall --yes --requirement requirements-build.txt \
    && python -m compileall -q /opt/scep-ra

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="scep-ra" \
      org.opencontainers.image.description="SCEP (RFC 8894) registration authority" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 scep-ra \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/scep-ra --shell /usr/sbin/nologin scep-ra \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/scep-ra
COPY --from=build /opt/scep-ra /opt/scep-ra
ENV PATH=/opt/scep-ra/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/scep-ra
# Configuration, keys and database; /tmp must be a tmpfs where the root is read-only.
VOLUME ["/var/lib/scep-ra"]
EXPOSE 8080
# With [server.tls] the admin listener speaks HTTPS, by a certificate that is not for this address.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["sh", "-c", "for scheme in http https; do \
    python -c 'import ssl, sys, urllib.request as r; \
        r.urlopen(sys.argv[1], timeout=2, context=ssl._create_unverified_context())' \
    $scheme://127.0.0.1:8081/livez 2>/dev/null && exit 0; done; exit 1"]
ENTRYPOINT ["scep-ra"]
CMD ["serve", "--config", "/var/lib/scep-ra/ra.toml"]
