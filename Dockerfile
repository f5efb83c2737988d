# Two images: "app" for web, worker and beat; "browser" adds Chromium for the workers that run browser nodes.
FROM python:3.12-slim-bookworm AS app
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/venv/bin:$PATH FLOWBUILDER_DATA_DIR=/data
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /opt/venv && pip install --no-cache-dir uv && uv pip install --no-cache --compile-bytecode -p /opt/venv/bin/python -r requirements.txt
COPY . .
RUN useradd --create-home --uid 10001 flow && mkdir /data && chown flow:flow /data && python -m compileall -q /app
USER flow
VOLUME /data
EXPOSE 8000
CMD ["uvicorn", "flowbuilder.asgi:application", "--no-proxy-headers", "--host", "0.0.0.0", "--port", "8000", "--ws-per-message-deflate", "false", "--ws-max-size", "65536"]

FROM app AS browser
USER root
RUN apt-get update && apt-get install -y --no-install-recommends chromium fonts-liberation && rm -rf /var/lib/apt/lists/*
USER flow
