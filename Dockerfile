# `modm serve` on CPUs, with the models of the world of shapes. A server that others can reach needs keys:
#   docker build -t modm --build-arg MODM_BUILT_FROM=$(git rev-parse --short=12 HEAD) .
#   docker run --rm modm key alice >> keys.toml
#   docker run -p 8080:8080 -v "$PWD/keys.toml:/keys.toml:ro" -e MODM_KEYS=/keys.toml -v modm-data:/data modm
# For other models mount their folders and name a scenario: -v ./models:/models:ro -e MODM_SCENARIO=/models/scenario.toml
# The same image runs workers of a cluster, `docker run modm worker ...`: deploy/compose.yaml has all of one.
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /modm
COPY . .
# Results state the commit, and a sweep refuses parts of another one. The image is built without the repository.
ARG MODM_BUILT_FROM
RUN cargo build --release --features serve,cluster --bin modm && scripts/install_onnxruntime --to /opt/onnxruntime

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 modm && mkdir /data && chown modm /data
COPY --from=build /modm/target/release/modm /usr/local/bin/modm
COPY --from=build /opt/onnxruntime /opt/onnxruntime
COPY --from=build /modm/scenarios /modm/scenarios
COPY --from=build /modm/models /modm/models
ENV ORT_DYLIB_PATH=/opt/onnxruntime MODM_SCENARIO=/modm/scenarios/live-shapes.toml MODM_DATA=/data MODM_LISTEN=0.0.0.0:8080
USER modm
EXPOSE 8080
HEALTHCHECK CMD curl --fail --silent http://127.0.0.1:8080/readyz || exit 1
ENTRYPOINT ["modm"]
CMD ["serve"]
