#!/bin/sh
# Runs the tests of test/node on a new Kubernetes node, with the installation by manifests. Then it runs the tests of the
# installation on a second node, with the chart, and those of embedded NATS servers on a third. Arguments go to the tests; with
# -test.run only the first node runs. Where no node can run, it prints the reason and succeeds, unless POSTBACK_NODE_TESTS=required is set.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
run=$root/.cache/node/run
mkdir -p "$run"
(cd hack/node && CGO_ENABLED=0 go build -trimpath -o "$run/node" .)
status=0
"$run/node" check || status=$?
if [ "$status" -eq 77 ] && [ "${POSTBACK_NODE_TESTS:-}" != required ]; then
	echo "The tests of a real node are skipped."
	exit 0
elif [ "$status" -ne 0 ]; then
	exit "$status"
fi

(cd hack/node && go test .)
controlplane=$(hack/controlplane/build.sh)
programs=$(hack/node/build.sh)
arch=$(go env GOARCH)
make -s bin/kustomize bin/helm
hack/installer.sh latest >"$run/install.yaml"
hack/image/build.sh -o "$run/images" -a "$arch" -v latest -l "-s -w -X main.version=node-test" \
	postback-manager=./cmd/manager postback-dispatcher=./cmd/dispatcher postback-portal=./cmd/portal workload=./test/node/workload >&2
CGO_ENABLED=0 go test -c -trimpath -o "$run/node.test" ./test/node
CGO_ENABLED=0 go build -trimpath -o "$run/bin/kubectl-postback" ./cmd/kubectl-postback
images=$(find "$run/images" -maxdepth 1 -name '*.tar' | paste -sd, -)
export PATH="$run/bin:$root/bin:$PATH" POSTBACK_INSTALLER="$run/install.yaml"

# Prints the settings of the machine that a node without its own namespaces could change.
machine() {
	sort /proc/self/mounts
	ls /sys/class/net /etc /var/lib /run
	for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops net/ipv4/ip_forward; do
		echo "$setting $(cat /proc/sys/$setting)"
	done
	find /sys/fs/cgroup -name 'kubepods*' 2>/dev/null
}
test_node() {
	(cd test/node && "$run/node" run -state "$run/state" -controlplane "$controlplane" -programs "$programs" -images "$images" \
		"$run/node.test" -test.v -test.timeout 30m "$@") || status=$?
}
machine >"$run/before"
test_node "$@"
case "$*" in
*-test.run*) ;;
*)
	[ "$status" -ne 0 ] || test_node "$@" -install chart -test.run 'Shipped|Service|Plugin|Portal'
	[ "$status" -ne 0 ] || test_node "$@" -install embedded -test.run 'Embedded'
	;;
esac
machine >"$run/after"
if ! diff "$run/before" "$run/after"; then
	echo "The node has changed the machine: see above." >&2
	exit 1
fi
exit "$status"
