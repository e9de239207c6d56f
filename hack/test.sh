#!/usr/bin/env bash
# test.sh FLAG... -- PACKAGE... runs go test. With RERUN=1, up to three failed tests run once more, alone. A test that then
# passes is flaky, and dist/flaky-tests.txt names it. Data races, failed builds and packages that time out stay failures.
set -euo pipefail
cd "$(dirname "$0")/.."

flags=()
while [ "$1" != -- ]; do
	flags+=("$1")
	shift
done
shift

# -vet=off, because "make vet" and "make lint" check everything. -count 1, because Go's cache of test results ignores the
# files that kubectl and the built programs read.
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
