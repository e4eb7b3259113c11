# Weighbridge in two stages: a virtual environment is built in the first and copied into the second.
# The base may be any Debian-like image with Python: docker build --build-arg BASE=… .
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
RUN python3 -m venv /opt/weighbridge \
 && /opt/weighbridge/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY policies policies
RUN python3 -m venv /build/hatch \
 && /build/hatch/bin/pip install --no-cache-dir --disable-pip-version-check "hatchling>=1.25" \
 && /build/hatch/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /build/wheels . \
 && /opt/weighbridge/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /build/wheels/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="weighbridge" org.opencontainers.image.licenses="Apache-2.0"
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/weighbridge/bin:$PATH
RUN groupadd --system --gid 990 weighbridge \
 && useradd --system --uid 990 --gid weighbridge --no-create-home --home-dir /data --shell /usr/sbin/nologin weighbridge \
 && install --directory --owner=weighbridge --group=weighbridge /data
COPY --from=build /opt/weighbridge /opt/weighbridge
USER 990:990
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
  CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["weighbridge"]
CMD ["serve", "--config", "/etc/weighbridge/weighbridge.yaml", "--host", "0.0.0.0", "--port", "8080"]
