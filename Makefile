# Needs Go, git and make. "make help" lists the targets.
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS ?= -s -w -X main.version=$(VERSION)
KUBECTL ?= kubectl
FUZZTIME ?= 30s
# Images are named REGISTRY/postback-manager:VERSION; without a registry, postback-manager:VERSION.
REGISTRY ?=
ARCHITECTURES ?= amd64 arm64
# The creation time in the images: the time of the commit, so that two builds of a commit have the same bytes.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# Tests are compiled with the flags of "make build", so that both share Go's cache; tests with the race detector do not.
export CGO_ENABLED := 0
export GOFLAGS := $(strip -trimpath $(filter-out -trimpath,$(GOFLAGS)))
# The race detector needs a C compiler; without one the tests run without it.
RACE ?= $(if $(shell command -v "$$(go env CC)" 2>/dev/null),-race)
# RERUN=1 runs a failed test a second time: see hack/test.sh.
GO_TEST := hack/test.sh $(RACE)

# A Postback has a finalizer, which only a running manager removes.
REMOVE_CRDS = $(KUBECTL) delete --ignore-not-found --timeout 2m -k config/crd || { \
	echo "Some Postbacks still exist: they wait for the manager to remove their routes. Is it running?" >&2; exit 1; }

CONTROLLER_GEN := bin/controller-gen
CRD_REF_DOCS := bin/crd-ref-docs
GOTESTSUM := bin/gotestsum
GOLANGCI_LINT := bin/golangci-lint
VALE := bin/vale
KUSTOMIZE := bin/kustomize
HELM := bin/helm
CYCLONEDX := bin/cyclonedx-gomod

##@ General

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Show on this machine how events are signed, delivered, retried and recorded. KEEP=1 leaves it running, INTAKE=jetstream embeds a NATS server, PORTAL=1 prints links to the portal.
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		go run ./test/demo -programs bin $(if $(KEEP),-keep) $(if $(INTAKE),-intake '$(INTAKE)') $(if $(PORTAL),-portal)

##@ Development

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate deepcopy functions from api/v1alpha1.
	@hack/generate.sh object

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate CustomResourceDefinitions and roles from the code, and the chart's copies of config.
	@hack/generate.sh manifests
	@hack/generate.sh chart

.PHONY: docs
docs: $(CRD_REF_DOCS) ## Generate docs/api.md, and the tables of docs/metrics.md and docs/configuration.md, from the code.
	@hack/generate.sh docs

.PHONY: fmt
fmt: ## Format the Go code.
	@go fmt ./...

.PHONY: vet
vet: ## Run go vet.
	@go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) lint-prose ## Run golangci-lint, also on the modules in hack, and lint-prose.
	@$(GOLANGCI_LINT) run ./...
	@for module in image lint node; do (cd hack/$$module && ../../$(GOLANGCI_LINT) run ./...) || exit 1; done

.PHONY: lint-prose
lint-prose: $(VALE) ## Check the sentences of documents and comments, by the rules in hack/vale.
	@$(VALE) --output line $$(find * .github -path dist -prune -o -path bin -prune -o \( -name '*.md' -o -name '*.go' \) -print)

.PHONY: lint-api
lint-api: $(GOLANGCI_LINT) ## Run kube-api-linter on the API types.
	@$(GOLANGCI_LINT) run --config .golangci-api.yml ./api/...

.PHONY: verify
verify: $(CONTROLLER_GEN) $(CRD_REF_DOCS) ## Check that the generated files are current.
	@hack/verify.sh

.PHONY: test
test: verify vet $(if $(RERUN),$(GOTESTSUM)) ## Run all tests, on a real API server. The first run builds it (minutes).
	@[ -n "$(RACE)" ] || echo "No C compiler: the tests run without the race detector."
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		$(GO_TEST) -timeout 20m -- $$(go list ./... | grep -v /test/console$$)

.PHONY: test-console
test-console: $(if $(RERUN),$(GOTESTSUM)) ## Test the console in Chromium. It runs apart from the other tests, because a browser needs the machine for itself.
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		hack/test.sh -timeout 15m -- ./test/console

# This target skips the tests that do not depend on the intake. "INTAKE=jetstream go test ./test/e2e" runs all.
SAME_IN_BOTH := 'TestAccess|TestDispatcherCannotReadTenants|TestRotat|TestManagerCrash|TestSearch|TestSenders|TestForbiddenSender|TestForeignSecrets'

.PHONY: pictures
pictures: ## Take the pictures of the console in docs/images, light and dark, on a desktop and a phone, in Chromium.
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		mkdir -p dist/pictures && POSTBACK_PICTURES="$(CURDIR)/dist/pictures" go test -count 1 -timeout 15m -run 'Pictures$$' ./test/console
	@for picture in docs/images/*.png; do [ ! -f "dist/pictures/$${picture##*/}" ] || cp "dist/pictures/$${picture##*/}" "$$picture"; done
	@ls dist/pictures

.PHONY: test-jetstream
test-jetstream: $(if $(RERUN),$(GOTESTSUM)) ## Run the end-to-end tests and the fault tests again with the JetStream intake.
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && hack/natsserver/build.sh >/dev/null && \
		INTAKE=jetstream $(GO_TEST) -timeout 15m -skip $(SAME_IN_BOTH) -- ./test/e2e ./test/faults

# It runs ten rounds, and a backlog of 5,000 deliveries for one endpoint. The output has the figures.
FAULTS ?= -rounds 10 -events 20000 -settle 170s -backlog 5000 -endpoints 100 -samples 3000 -ratio 2 -down 100 -down-for 3m -purged 5000

.PHONY: test-faults
test-faults: ## Test delivery at full length while everything fails (about half an hour). FAULTS="-seed N ..." for other lengths, INTAKE=jetstream or jetstream-embedded for NATS, NATS_NODES=3 for a cluster.
	@KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
		go test -count 1 -timeout 60m -v ./test/faults $(FAULTS)

# The tests get the flags in NODE_FLAGS, such as "-seed N -events N".
NODE_FLAGS ?=

.PHONY: test-node
test-node: ## Test the installation in real Pods, on a Kubernetes node that it starts. Needs root and Linux. The first run builds the node (minutes).
	@hack/node/test.sh $(NODE_FLAGS)

.PHONY: simulation
simulation: ## Simulate an outage of many endpoints, and write its figures and plots into docs (some minutes).
	@go test -count 1 -timeout 30m ./test/simulation -update

.PHONY: verify-simulation
verify-simulation: ## Check that the simulation gives the figures in docs (some minutes).
	@go test -count 1 -timeout 30m ./test/simulation -full

# BENCH has more flags for test/bench, such as BENCH="-series=postbacks=10:10000".
BENCH ?= -intake=kubernetes,jetstream,jetstream-embedded,jetstream-synced -series=fanout,bodies,retries,unfinished,postbacks,replicas
BENCH_RUN = KUBEBUILDER_ASSETS="$$(hack/controlplane/build.sh)" && export KUBEBUILDER_ASSETS && \
	go run ./test/bench -programs "$(CURDIR)/bin"

.PHONY: bench
bench: build ## Measure throughput, latency, CPU and memory, and write docs/performance.md (about ten minutes).
	@$(BENCH_RUN) -out docs $(BENCH)

# BACKLOGS has more flags for test/bench, such as BACKLOGS="-full".
BACKLOGS ?=

.PHONY: bench-backlogs
bench-backlogs: build ## Measure outages, waiting deliveries and random failures with JetStream, in short runs (minutes). BACKLOGS="-full" measures the targets (hours).
	@$(BENCH_RUN) -intake=jetstream -runs= -backlogs=outage,waiting,random,resume $(BACKLOGS)

# PORTAL_BENCH has more flags for test/bench, such as PORTAL_BENCH="-portal-visitors=100 -portal-namespaces=1".
PORTAL_BENCH ?= -portal-write

.PHONY: bench-portal
bench-portal: build ## Measure 500 visitors with a live log each, in 50 namespaces and in one, and write the table of docs/portal.md (minutes).
	@$(BENCH_RUN) -portal-visitors=500 $(PORTAL_BENCH)

.PHONY: bench-guard
bench-guard: build ## Make a short run of each intake and fail if a ratio is out of its recorded range.
	@$(BENCH_RUN) -guard

.PHONY: bench-go
bench-go: ## Run the micro-benchmarks of the hot functions, for benchstat.
	@go test -run '^$$' -bench . -benchmem -count 6 ./internal/postback/route ./internal/postback/sign ./internal/postback/format ./internal/postback/delivery ./dispatcher/send

.PHONY: fuzz
fuzz: ## Run each fuzz test for FUZZTIME: a time (30s) or a number of inputs (100000x).
	@hack/fuzz.sh $(FUZZTIME)

.PHONY: fuzz-short
fuzz-short: ## Run each fuzz test with 20,000 inputs, without guidance by coverage.
	@hack/fuzz.sh 20000x unguided

.PHONY: controlplane
controlplane: ## Build etcd, kube-apiserver, kube-controller-manager and kubectl; prints their folder.
	@hack/controlplane/build.sh

##@ Package

.PHONY: build-installer
build-installer: $(KUSTOMIZE) ## Write dist/install.yaml and dist/install-portal.yaml, with the images of VERSION in REGISTRY.
	@mkdir -p dist
	@hack/installer.sh '$(VERSION)' '$(REGISTRY)' >dist/install.yaml.part && mv dist/install.yaml.part dist/install.yaml
	@hack/installer.sh '$(VERSION)' '$(REGISTRY)' portal >dist/install.yaml.part && mv dist/install.yaml.part dist/install-portal.yaml
	@echo "dist/install.yaml dist/install-portal.yaml" >&2

# The version in the form of Helm: 0.1.0 for v0.1.0, and 0.0.0-g7e5140b for a commit without a tag.
CHART_VERSION = $(shell echo '$(VERSION)' | sed -E 's/^v([0-9]+\.[0-9]+\.[0-9]+)/\1/; t; s/^/0.0.0-g/')

.PHONY: build-chart
build-chart: $(HELM) ## Write the chart of VERSION into dist/.
	@mkdir -p dist
	@$(HELM) package charts/postback --version '$(CHART_VERSION)' --app-version '$(VERSION)' --destination dist

.PHONY: release
release: $(CYCLONEDX) ## Write a release into dist/: VERSION=v0.1.0 REGISTRY=registry.example.com/acme.
	@find dist -mindepth 1 -maxdepth 1 ! -name images -exec rm -rf {} + 2>/dev/null || true
	@$(MAKE) --no-print-directory build-installer build-chart
	@for program in manager dispatcher portal kubectl-postback; do \
		GOOS=linux $(CYCLONEDX) app -json -noserial -output-version 1.6 -main cmd/$$program -output dist/$$program.cdx.json . || exit 1; done
	@go run ./hack/release -version '$(VERSION)' -time "$$SOURCE_DATE_EPOCH"
	@cd dist && ls -l && sha256sum --quiet --check checksums.txt

##@ Build and run

.PHONY: build
build: ## Build the programs into bin/.
	@mkdir -p bin
	@echo "Building $(notdir $(wildcard cmd/*)) into bin/" >&2
	@go build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

IMAGES = hack/image/build.sh -a '$(ARCHITECTURES)' -r '$(REGISTRY)' -v '$(VERSION)' -l '$(LDFLAGS)'

.PHONY: images
images: ## Build container images into dist/images, as OCI archives. REGISTRY is the prefix of their names.
	@$(IMAGES) -o dist/images postback-manager=./cmd/manager postback-dispatcher=./cmd/dispatcher postback-portal=./cmd/portal

.PHONY: verify-images
verify-images: images ## Test the images, and check that a second build in another folder gives the same bytes.
	@cd hack/image && go test .
	@hack/image/reproducible.sh dist/images VERSION='$(VERSION)' REGISTRY='$(REGISTRY)' ARCHITECTURES='$(ARCHITECTURES)'

.PHONY: run
run: build ## Run manager and dispatcher here, against the cluster of your kubeconfig.
	@hack/run.sh $(ARGS)

.PHONY: install
install: ## Install the CustomResourceDefinitions into the cluster of your kubeconfig.
	$(KUBECTL) apply -k config/crd

.PHONY: uninstall
uninstall: ## Remove the CustomResourceDefinitions, and every Postback with them. The manager has to run, because it removes their finalizers.
	@$(REMOVE_CRDS)

.PHONY: deploy
deploy: ## Install everything into the cluster of your kubeconfig.
	$(KUBECTL) apply -k config/default

.PHONY: undeploy
undeploy: ## Remove everything. Postbacks go first, while the manager can still remove their finalizers.
	@$(REMOVE_CRDS)
	$(KUBECTL) delete --ignore-not-found -k config/default

.PHONY: clean
clean: ## Remove all build results except the control plane in .cache.
	rm -rf bin dist

$(CONTROLLER_GEN): tool = sigs.k8s.io/controller-tools/cmd/controller-gen
$(CRD_REF_DOCS): tool = github.com/elastic/crd-ref-docs
$(GOTESTSUM): tool = gotest.tools/gotestsum
$(CONTROLLER_GEN) $(CRD_REF_DOCS) $(GOTESTSUM): hack/tools/go.mod hack/tools/go.sum
	@echo "Building $(@F)" >&2
	@cd hack/tools && go build -o ../../$@ $(tool)
	@touch $@

# One rule for three tools; each is a tool of the module hack/packaging.
$(KUSTOMIZE): tool = sigs.k8s.io/kustomize/kustomize/v5
$(HELM): tool = helm.sh/helm/v4/cmd/helm
$(CYCLONEDX): tool = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
$(KUSTOMIZE) $(HELM) $(CYCLONEDX): hack/packaging/go.mod hack/packaging/go.sum
	@echo "Building $(@F)" >&2
	@cd hack/packaging && go build -ldflags '-s -w' -o ../../$@ $(tool)
	@touch $@

$(VALE): hack/vale/go.mod hack/vale/go.sum
	@command -v "$$(go env CC)" >/dev/null || { echo "Vale needs a C compiler: install gcc, or name one in CC" >&2; exit 1; }
	@echo "Building Vale; this takes a minute, once" >&2
	@cd hack/vale && CGO_ENABLED=1 CGO_CFLAGS=-w go build -trimpath -ldflags '-s -w' -o ../../$@ github.com/vale-cli/vale/v3/cmd/vale
	@touch $@

$(GOLANGCI_LINT): hack/lint/go.mod hack/lint/go.sum hack/lint/main.go
	@echo "Building golangci-lint; this takes some minutes, once" >&2
	@cd hack/lint && go build -ldflags '-s -w' -o ../../$@ .
	@touch $@
