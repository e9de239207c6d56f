#!/bin/sh
# Fails if a generated file on disk differs from the output of its generator. It changes no file, and ignores other
# uncommitted changes.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

hack/generate.sh object "$fresh"
hack/generate.sh manifests "$fresh"
hack/generate.sh chart "$fresh"
hack/generate.sh docs "$fresh"

stale=0
# compare FILES... fails unless each file exists both on disk and in the generated output, with the same content.
compare() {
	for file; do
		if ! diff -uN "$file" "$fresh/$file"; then
			stale=1
		fi
	done
}
compare api/v1alpha1/zz_generated.deepcopy.go config/rbac/manager/role.yaml config/rbac/dispatcher/role.yaml \
	config/rbac/namespace/role.yaml config/rbac/namespaced/role.yaml docs/metrics.md docs/configuration.md docs/api.md
crds=config/crd/bases
compare $( (ls "$crds" "$fresh/$crds") | grep '\.yaml$' | sort -u | sed "s|^|$crds/|")
chart=charts/postback/files
compare $( (cd "$chart" && find . -type f; cd "$fresh/$chart" && find . -type f) | sort -u | sed "s|^\.|$chart|")

if [ "$stale" -ne 0 ]; then
	echo "Generated files are out of date; the difference is above. Run: make generate manifests docs chart" >&2
	exit 1
fi
