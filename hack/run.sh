#!/bin/sh
# Runs the built manager and dispatcher against the cluster of the current kubeconfig, until Ctrl-C or until one ends.
# Arguments go to the manager: make run ARGS=--allow-plain-http. The dispatcher may reach endpoints on this machine. If a manager
# already runs in the cluster, this one waits for its Lease.
# The CustomResourceDefinitions (make install) and the namespace postback-system must exist.
set -eu
cd "$(dirname "$0")/.."
namespace=${POD_NAMESPACE:-postback-system}

bin/manager --namespace="$namespace" --leader-elect --health-probe-bind-address=127.0.0.1:8081 "$@" &
manager=$!
bin/dispatcher --namespace="$namespace" --allow-cidr=127.0.0.0/8,::1/128 --health-probe-bind-address=127.0.0.1:8083 &
dispatcher=$!

# Each program gets the signal once and shuts down in order.
end() {
	trap - EXIT INT TERM
	kill "$manager" "$dispatcher" 2>/dev/null || true
	wait
}
trap end EXIT
trap 'end; exit 0' INT TERM
while kill -0 "$manager" 2>/dev/null && kill -0 "$dispatcher" 2>/dev/null; do
	sleep 1
done
echo "One of the two has ended; ending the other." >&2
exit 1
