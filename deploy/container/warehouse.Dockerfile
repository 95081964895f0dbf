# syntax=docker/dockerfile:1
#
# The warehouse: an image of its own, since DataFusion and Delta are in no server. From the root of the repository:
#   docker build -f deploy/container/warehouse.Dockerfile -t tickstream-warehouse .
#   docker run --rm -v events:/var/lib/tickstream -v tables:/var/lib/tickstream-warehouse --network host tickstream-warehouse
#
# It stands beside a server and shares the volume with its journals; docs/warehouse.md has the rest. Like that of the server,
# it is one binary and the libraries of glibc on top of nothing; for tables in a bucket, also the certificates of authorities.

ARG RUST_VERSION=1.95.0
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates cmake g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package tickstream-warehouse \
    && install -D -m 0755 target/release/tickstream-warehouse /image/usr/local/bin/tickstream-warehouse \
    && strip --strip-debug /image/usr/local/bin/tickstream-warehouse
# Each library under the path that the loader looks for it at; then the binary is tried with these alone.
RUN ldd /image/usr/local/bin/tickstream-warehouse | grep -o '/[^ ]*' | xargs -I{} install -D {} /image{} \
    && install -D -m 0644 -t /image/usr/share/doc/tickstream LICENSE-MIT LICENSE-APACHE \
    && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && echo 'tickstream:x:65532:65532::/:/usr/sbin/nologin' > /image/etc/passwd \
    && echo 'tickstream:x:65532:' > /image/etc/group \
    && install -d -m 0700 /state \
    && chroot /image /usr/local/bin/tickstream-warehouse --version

FROM scratch
LABEL org.opencontainers.image.title="tickstream-warehouse" \
      org.opencontainers.image.description="Events of tickstream's journals as tables, with SQL" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.source="https://github.com/tickstream/tickstream"
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /state /var/lib/tickstream-warehouse
# The same user as the server's: it reads its journals, and writes its position beside them.
USER 65532:65532
EXPOSE 7432 7480 9091
# SIGTERM loads what is there and finishes answers that were begun: docker stop --time 60.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/tickstream-warehouse"]
CMD ["run", "--tables", "/var/lib/tickstream-warehouse", "--journal", "/var/lib/tickstream", "--http", "127.0.0.1:7480", \
     "--postgres", "127.0.0.1:7432", "--admin", "127.0.0.1:9091"]
