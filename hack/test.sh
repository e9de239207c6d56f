#!/usr/bin/env bash
# test.sh FLAG... -- PACKAGE... runs go test. With RERUN=1, up to three tests that failed run once more, alone; one that passes then
# is flaky, and dist/flaky-tests.txt names it. A data race, a build that fails and a package that times out stay failures.
set -euo pipefail
cd "$(dirname "$0")/.."

flags=()
while [ "$1" != -- ]; do
	flags+=("$1")
	shift
done
shift

# -vet=off, for "make vet" and "make lint" see all of it. -count 1, for the cache of results does not know what kubectl and the
# built programs read.
flags=(-vet=off -count 1 "${flags[@]}")
case " ${flags[*]} " in *" -race "*) export CGO_ENABLED=1 ;; esac

if [ -z "${RERUN:-}" ]; then
	exec go test "${flags[@]}" "$@"
fi
mkdir -p dist
report=$(mktemp dist/rerun.XXXXXX)
trap 'cat "$report" >>dist/flaky-tests.txt; rm -f "$report"' EXIT
bin/gotestsum --format pkgname --hide-summary skipped \
	--rerun-fails=1 --rerun-fails-max-failures=3 --rerun-fails-abort-on-data-race --rerun-fails-report "$report" \
	--packages "$*" -- "${flags[@]}"
