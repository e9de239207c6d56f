#!/bin/sh
# Runs each fuzz test of the module for a time (30s) or a number of inputs (20000x). Usage: hack/fuzz.sh TIME|NUMBERx [unguided].
# CI sets a number: when a time ends, Go 1.26 can report "context deadline exceeded" for a test that passed
# (golang/go#75804, fixed in 1.27). An unguided run measures no coverage. Coverage would compile every
# dependency once more, which takes minutes.
set -eu
cd "$(dirname "$0")/.."
budget=${1:-30s}
guided=${2:-guided}
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
found=$(go env GOCACHE)/fuzz # the folder in which "go test" stores new inputs

fuzz() { # PACKAGE NAME
	echo "$1 $2"
	if [ "$guided" = guided ]; then
		go test -run '^$' -fuzz "^$2\$" -fuzztime "$budget" "$1"
	else
		program=$programs/$1.test # A package may be in the folder of another.
		[ -e "$program" ] || go test -c -o "$program" "$1"
		(cd "$1" && "$program" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "$budget" -test.fuzzcachedir "$found/$(go list .)")
	fi
}
grep -rl --include='*_test.go' --exclude-dir='.?*' '^func Fuzz' . | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r name; do
		fuzz "$(dirname "$file")" "$name"
	done
done
