# syntax=docker/dockerfile:1

# The daemon is built without cgo, so the binary needs nothing from the image it runs in.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -buildvcs=false -trimpath -ldflags="-s -w" -o /out/hydrant ./cmd/hydrant \
    && mkdir -p /out/data

FROM scratch
# The authorities that AWS's endpoints are signed by.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/hydrant /hydrant
# A volume that is mounted here for the first time takes over the directory's owner.
COPY --from=build --chown=65532:65532 /out/data /var/lib/hydrant
USER 65532:65532
WORKDIR /var/lib/hydrant
VOLUME /var/lib/hydrant
# The exec form, so that SIGTERM reaches the daemon and it can stop in order.
ENTRYPOINT ["/hydrant"]
CMD ["run", "-c", "/etc/hydrant/hydrant.yaml"]
