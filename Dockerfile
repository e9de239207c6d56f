# Images of the programs for those who build with Docker or Podman. "make images" needs neither.
#   docker build --build-arg PROGRAM=manager -t postback-manager .
#   docker build --build-arg PROGRAM=dispatcher -t postback-dispatcher .
#   docker build --build-arg PROGRAM=portal -t postback-portal .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG PROGRAM TARGETOS TARGETARCH
ARG VERSION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /program ./cmd/$PROGRAM

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /program /program
USER 65532:65532
ENTRYPOINT ["/program"]
