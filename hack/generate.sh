#!/bin/sh
# Generates deepcopy functions (object), CustomResourceDefinitions and roles (manifests), or pages of the documentation
# (docs), from the Go code; or copies files of config/ into the chart (chart).
# Usage: hack/generate.sh object|manifests|docs|chart [OUTPUT ROOT]; the default output root is this repository.
set -eu
cd "$(dirname "$0")/.."
what=$1
out=${2:-.}
controller_gen=${CONTROLLER_GEN:-bin/controller-gen}
crd_ref_docs=${CRD_REF_DOCS:-bin/crd-ref-docs}

# controller-gen silently ignores an rbac marker in the doc comment of a declaration.
misplaced=$(find controllers dispatcher internal -name '*.go' -exec awk '
	previous ~ /^\/\/ \+kubebuilder:rbac/ && $0 !~ /^$|^\/\/ \+kubebuilder:rbac/ { print FILENAME ":" FNR ": " $0 }
	{ previous = $0 }' {} + 2>/dev/null || true)
if [ -n "$misplaced" ]; then
	echo "Leave an empty line after +kubebuilder:rbac markers, or they have no effect:" >&2
	echo "$misplaced" >&2
	exit 1
fi

case $what in
object)
	$controller_gen object:headerFile=hack/boilerplate.go.txt paths=./api/v1alpha1 \
		output:object:dir="$out/api/v1alpha1"
	;;
manifests)
	$controller_gen crd paths=./api/v1alpha1 output:crd:dir="$out/config/crd/bases"
	if [ -d controllers ]; then
		$controller_gen rbac:roleName=postback-manager paths=./controllers/... \
			output:rbac:dir="$out/config/rbac/manager"
	fi
	$controller_gen rbac:roleName=postback-dispatcher paths=./dispatcher/... \
		output:rbac:dir="$out/config/rbac/dispatcher"
	go run ./hack/roles "$out"
	;;
chart)
	files="$out/charts/postback/files"
	rm -rf "$files"
	mkdir -p "$files/crds"
	cp config/crd/bases/*.yaml "$files/crds/"
	for folder in rbac/manager rbac/dispatcher rbac/namespace rbac/namespaced rbac/users network-policy jetstream/network-policy jetstream-embedded/network-policy jetstream-embedded/service portal/rbac portal/network-policy portal/policies portal/priority portal/prometheus priority prometheus grafana; do
		for file in config/$folder/*.yaml config/$folder/*.json; do
			case $file in
			*/kustomization.yaml | *'*'*) ;;
			*) mkdir -p "$files/$folder" && cp "$file" "$files/$folder/" ;;
			esac
		done
	done
	;;
docs)
	go run ./hack/metrics "$out"
	go run ./hack/configuration "$out"
	# If the validation of a field is only "Required: {}" or "Optional: {}", docs/api.md shows one word.
	$crd_ref_docs --source-path=api/v1alpha1 --config=hack/api-reference.yaml --renderer=markdown --output-path="$out/docs/api.md" >/dev/null
	sed -e 's/\(Required\|Optional\): \\{\\} /\1 /g' "$out/docs/api.md" >"$out/docs/api.md.new"
	mv "$out/docs/api.md.new" "$out/docs/api.md"
	;;
*)
	echo "usage: $0 object|manifests|docs|chart [OUTPUT ROOT]" >&2
	exit 2
	;;
esac
