#!/bin/sh
# Builds kube-apiserver, kube-controller-manager, kubectl and etcd from the Go modules pinned in go.mod, once for each version.
# It prints the folder of the programs, the value for KUBEBUILDER_ASSETS. Progress goes to standard error.
# If KUBEBUILDER_ASSETS is set, the script builds nothing and prints its value.
set -eu
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
	echo "$KUBEBUILDER_ASSETS"
	exit 0
fi

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
etcd=$(awk '$1 == "go.etcd.io/etcd/server/v3" { print $2; exit }' go.mod)
platform=$(go env GOOS)-$(go env GOARCH)
assets="${CONTROLPLANE_CACHE:-$root/.cache/controlplane}/$kubernetes-etcd-$etcd-$platform"
if [ -e "$assets/complete" ]; then
	echo "$assets"
	exit 0
fi

minor=$(echo "$kubernetes" | cut -d. -f2)
version_package=k8s.io/component-base/version
client_package=k8s.io/client-go/pkg/version
ldflags="-s -w"
for package in $version_package $client_package; do
	ldflags="$ldflags -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$minor"
	ldflags="$ldflags -X $package.gitTreeState=clean"
done

# Only one build runs at a time, because "go test ./..." calls this script once for each package. The lock is a link to the
# process id, which ln creates atomically. If no process has that id, the build was killed, and the lock is void.
lock="$assets.lock"
mkdir -p "$(dirname "$assets")"
until ln -s "$$" "$lock" 2>/dev/null; do
	owner=$(readlink "$lock" || true)
	if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
		[ "$(readlink "$lock" || true)" != "$owner" ] || rm -f "$lock"
	else
		sleep 1
	fi
done
building="$assets.building"
trap 'rm -rf "$building" "$lock"' EXIT
trap 'exit 130' INT TERM
if [ -e "$assets/complete" ]; then
	echo "$assets"
	exit 0
fi
rm -rf "$building"
mkdir "$building"
k=k8s.io/kubernetes/cmd
export CGO_ENABLED=0
programs="go.etcd.io/etcd/server/v3 $k/kube-apiserver $k/kube-controller-manager $k/kubectl"
echo "Building Kubernetes $kubernetes and etcd $etcd from source, once: about 8 minutes on two idle cores, 16 on two busy ones." >&2
# The total is the number of packages that the build cache lacks. It depends on -trimpath.
total=$(go list -trimpath -deps -f '{{if .Stale}}{{.ImportPath}}{{end}}' $programs | wc -l)

# With -v, go build names each package once when it compiles it. progress.awk counts these lines; the log is for a failure.
log="$building/build.log"
build() {
	name=$1
	shift
	go build -v -trimpath "$@" || { echo "$name" >"$building/failed"; exit 1; }
	echo "built $name"
}
{
	build etcd -ldflags "-s -w" -o "$building/etcd" go.etcd.io/etcd/server/v3
	build kube-apiserver -ldflags "$ldflags" -o "$building/" $k/kube-apiserver
	build kube-controller-manager -ldflags "$ldflags" -o "$building/" $k/kube-controller-manager
	build kubectl -ldflags "$ldflags" -o "$building/" $k/kubectl
	touch "$building/built"
} 2>&1 | tee "$log" | awk -v total="$total" -f progress.awk >&2
if [ ! -e "$building/built" ]; then
	tail -n 30 "$log" >&2
	echo "Building $(cat "$building/failed" 2>/dev/null || true) failed; the last lines of its output are above." >&2
	exit 1
fi

rm -f "$log" "$building/built"
touch "$building/complete"
rm -rf "$assets"
mv "$building" "$assets"
echo "$assets"
