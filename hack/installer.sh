#!/bin/sh
# Prints the manifests of config/default with the images of a version: what "make build-installer" writes into
# dist/install.yaml. Usage: hack/installer.sh VERSION [REGISTRY]
set -eu
cd "$(dirname "$0")/.."
version=$1
registry=${2:+${2%/}/}

# Kustomize wants its folders by relative paths.
mkdir -p dist
overlay=$(mktemp -d dist/installer.XXXXXX)
trap 'rm -rf "$overlay"' EXIT
trap 'exit 130' INT TERM
cat >"$overlay/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- ../../config/default
labels:
- pairs:
    app.kubernetes.io/version: "$version"
images:
- name: postback-manager
  newName: ${registry}postback-manager
  newTag: "$version"
- name: postback-dispatcher
  newName: ${registry}postback-dispatcher
  newTag: "$version"
END
"${KUSTOMIZE:-bin/kustomize}" build "$overlay"
