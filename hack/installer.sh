#!/bin/sh
# Prints the manifests of a folder of config/ ("default" unless FOLDER names another) with the images of a version.
# "make build-installer" writes those of "default" into dist/install.yaml, and those of "portal" into dist/install-portal.yaml.
# Usage: hack/installer.sh VERSION [REGISTRY [FOLDER]]
set -eu
cd "$(dirname "$0")/.."
version=$1
registry=${2:+${2%/}/}

# Kustomize accepts only relative paths to other folders.
mkdir -p dist
overlay=$(mktemp -d dist/installer.XXXXXX)
trap 'rm -rf "$overlay"' EXIT
trap 'exit 130' INT TERM
cat >"$overlay/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- ../../config/${3:-default}
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
- name: postback-portal
  newName: ${registry}postback-portal
  newTag: "$version"
END
"${KUSTOMIZE:-bin/kustomize}" build "$overlay"
