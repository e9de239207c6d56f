#!/bin/sh
# Builds nats-server from the Go module pinned in go.mod, once for each version, and prints its path. Progress goes to
# standard error. If NATS_SERVER is set, the script builds nothing and prints its value.
set -eu
if [ -n "${NATS_SERVER:-}" ]; then
	echo "$NATS_SERVER"
	exit 0
fi

cd "$(dirname "$0")"
version=$(awk '$1 == "github.com/nats-io/nats-server/v2" && NF > 1 { print $2; exit }' go.mod)
folder="${NATS_SERVER_CACHE:-$(cd ../.. && pwd)/.cache/nats-server}/$version-$(go env GOOS)-$(go env GOARCH)"
program="$folder/nats-server"
if [ ! -x "$program" ]; then
	mkdir -p "$folder"
	echo "Building nats-server $version from source" >&2
	# Two builds at the same time are safe: each moves a complete program into place.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$program.$$" github.com/nats-io/nats-server/v2 >&2
	mv "$program.$$" "$program"
fi
echo "$program"
