# The runtime on a CPU, without PyTorch. See docs/containers.md.
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir "/src[cpu,dashboard,video,mqtt,modbus,opcua]" \
    && if [ "$(uname -m)" = x86_64 ]; then pip install --no-cache-dir "/src[openvino]"; fi \
    && rm -rf /src && useradd --uid 1000 --create-home line
USER line
WORKDIR /line
EXPOSE 8766
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8766/healthz', timeout=4)"]
ENTRYPOINT ["stfpm-inspect", "--config", "line.toml", "--dashboard", "0.0.0.0:8766"]
