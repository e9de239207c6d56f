#!/bin/sh
# Builds the programs of a Kubernetes node that hack/controlplane does not build, once for each version, and prints their
# folder. The go.mod here, in addons and in ../controlplane pin the Go modules. Progress goes to standard
# error.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
version_of() { awk -v module="$2" '$1 == module { print $2; exit }' "$1"; }
kubernetes=$(version_of ../controlplane/go.mod k8s.io/kubernetes)
# The name of the folder contains a hash of all sources, so a change of one gives another folder.
sources=$(cat build.sh go.mod addons/go.mod addons/coredns/main.go pause/main.go ../image/archive.go ../image/image.go ../image/main.go ../image/go.mod | cksum | tr ' ' -)
assets="${NODE_CACHE:-$root/.cache/node}/$kubernetes-$(go env GOARCH)-$sources"
if [ -e "$assets/complete" ]; then
	echo "$assets"
	exit 0
fi

mkdir -p "$(dirname "$assets")"
exec 9>"$assets.lock"
flock 9
if [ -e "$assets/complete" ]; then
	echo "$assets"
	exit 0
fi
building="$assets.building"
trap 'rm -rf "$building"' EXIT
trap 'exit 130' INT TERM
rm -rf "$building"
mkdir -p "$building"

minor=$(echo "$kubernetes" | cut -d. -f2)
ldflags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	ldflags="$ldflags -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$minor"
	ldflags="$ldflags -X $package.gitTreeState=clean"
done
export CGO_ENABLED=0
echo "Building a Kubernetes node, $kubernetes, from source. The first time takes some minutes." >&2
step() {
	"$@"
	printf '  %s: %s built\n' "$(date -u +%H:%M:%S)" "$(ls "$building" | tr '\n' ' ')" >&2
}
(cd ../controlplane && step go build -trimpath -ldflags "$ldflags" -o "$building/" \
	k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/cmd/kube-proxy k8s.io/kubernetes/cmd/kube-scheduler)
# "tool" is all tools of the module: containerd, its shim, ctr and the CNI plugins.
step go build -trimpath -ldflags "-s -w" -tags no_btrfs,no_zfs,no_aufs,no_devmapper -o "$building/" tool
arch=$(go env GOARCH)
image() { step ../image/build.sh -o "$building/images" -a "$arch" -r node.test -v node "$@" >&2; }
image pause=./pause
image -C addons coredns=./coredns
image -C addons kube-network-policies=sigs.k8s.io/kube-network-policies/cmd
touch "$building/complete"
rm -rf "$assets"
mv "$building" "$assets"
echo "$assets"
