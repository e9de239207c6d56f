# Needs Go, git and make. "make help" lists the targets.
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS ?= -s -w -X main.version=$(VERSION)
KUBECTL ?= kubectl
FUZZTIME ?= 30s
# Images are named REGISTRY/postback-manager:VERSION; without a registry, postback-manager:VERSION.
REGISTRY ?=
ARCHITECTURES ?= amd64 arm64
# What images tell as the time of their making: that of the commit, so that two builds of it are the same.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# The race detector needs a C compiler; without one the tests run without it.
RACE ?= $(if $(shell command -v "$$(go env CC)" 2>/dev/null),-race)

# A Postback has a finalizer, which only a running manager removes.
REMOVE_CRDS = $(KUBECTL) delete --ignore-not-found --timeout 2m -k config/crd || { \
	echo "Some objects are left: Postbacks wait for the manager to remove their routes. Is it running?" >&2; exit 1; }

CONTROLLER_GEN := bin/controller-gen
GOLANGCI_LINT := bin/golangci-lint

##@ General

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Show events being delivered, signed, retried and recorded, on this machine. KEEP=1 leaves it running.
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		CGO_ENABLED=0 go run -trimpath ./test/demo -programs bin $(if $(KEEP),-keep)

##@ Development

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate deepcopy functions from api/v1alpha1.
	@hack/generate.sh object

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate CustomResourceDefinitions and roles from the code.
	@hack/generate.sh manifests

.PHONY: fmt
fmt: ## Format the Go code.
	@go fmt ./...

.PHONY: vet
vet: ## Run go vet.
	@go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run golangci-lint.
	@$(GOLANGCI_LINT) run ./...

.PHONY: lint-api
lint-api: $(GOLANGCI_LINT) ## Run kube-api-linter on the API types.
	@$(GOLANGCI_LINT) run --config .golangci-api.yml ./api/...

.PHONY: verify
verify: $(CONTROLLER_GEN) ## Check that the generated files are current.
	@hack/verify.sh

# -count 1, for the cache of results does not know what kubectl and the built programs read.
.PHONY: test
test: verify vet ## Run all tests, on a real API server that is built first (minutes, once).
	@[ -n "$(RACE)" ] || echo "No C compiler: the tests run without the race detector."
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		go test $(RACE) -count 1 -timeout 20m $$(go list ./... | grep -v /test/console$$)

.PHONY: test-console
test-console: ## Test the console in Chromium. Apart from the others, for a browser needs the machine for itself.
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		go test -count 1 -timeout 15m ./test/console

# Ten rounds, and a backlog of 5,000 for one endpoint. The figures are in the output.
FAULTS ?= -rounds 10 -events 20000 -settle 170s -backlog 5000 -endpoints 100 -samples 3000 -ratio 2

.PHONY: test-faults
test-faults: ## Test delivery at full length while everything fails (about half an hour). FAULTS="-seed N ..." for other lengths.
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		go test -count 1 -timeout 60m -v ./test/faults $(FAULTS)

# NODE_FLAGS="-seed N -events N ..." go to the tests.
NODE_FLAGS ?=

.PHONY: test-node
test-node: ## Test the installation in real Pods, on a Kubernetes node of its own. Needs root and Linux; built first (minutes, once).
	@hack/node/test.sh $(NODE_FLAGS)

.PHONY: fuzz
fuzz: ## Run each fuzz test for FUZZTIME (30s).
	@hack/fuzz.sh $(FUZZTIME)

.PHONY: controlplane
controlplane: ## Build etcd, kube-apiserver, kube-controller-manager and kubectl; prints their folder.
	@hack/controlplane/build.sh

##@ Build and run

.PHONY: build
build: ## Build the programs into bin/.
	@mkdir -p bin
	@echo "Building manager and dispatcher into bin/" >&2
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

IMAGES = hack/image/build.sh -a '$(ARCHITECTURES)' -r '$(REGISTRY)' -v '$(VERSION)' -l '$(LDFLAGS)'

.PHONY: images
images: ## Build container images into dist/images, as OCI archives. REGISTRY=... begins their names.
	@$(IMAGES) -o dist/images postback-manager=./cmd/manager postback-dispatcher=./cmd/dispatcher

.PHONY: verify-images
verify-images: images ## Test the images, and check that they are the same when they are built again, somewhere else.
	@cd hack/image && go test .
	@hack/image/reproducible.sh dist/images VERSION='$(VERSION)' REGISTRY='$(REGISTRY)' ARCHITECTURES='$(ARCHITECTURES)'

.PHONY: run
run: build ## Run manager and dispatcher here, against the cluster of your kubeconfig.
	@hack/run.sh $(ARGS)

.PHONY: install
install: ## Install the CustomResourceDefinitions into the cluster of your kubeconfig.
	$(KUBECTL) apply -k config/crd

.PHONY: uninstall
uninstall: ## Remove them, and every Postback with them. The manager must be running, to let go of them.
	@$(REMOVE_CRDS)

.PHONY: deploy
deploy: ## Install everything into the cluster of your kubeconfig.
	$(KUBECTL) apply -k config/default

.PHONY: undeploy
undeploy: ## Remove everything: first the Postbacks, while the manager can still let go of them.
	@$(REMOVE_CRDS)
	$(KUBECTL) delete --ignore-not-found -k config/default

.PHONY: clean
clean: ## Remove what was built, except the control plane in .cache.
	rm -rf bin dist

$(CONTROLLER_GEN): hack/tools/go.mod hack/tools/go.sum
	@echo "Building controller-gen" >&2
	@cd hack/tools && go build -o ../../$@ sigs.k8s.io/controller-tools/cmd/controller-gen
	@touch $@

$(GOLANGCI_LINT): hack/lint/go.mod hack/lint/go.sum hack/lint/main.go
	@echo "Building golangci-lint; this takes some minutes, once" >&2
	@cd hack/lint && go build -ldflags '-s -w' -o ../../$@ .
	@touch $@
