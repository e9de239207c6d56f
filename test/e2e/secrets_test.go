/*
Copyright 2026 The Postback Authors.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
*/

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
)

// loudest is a log level at which client-go would log the bodies that it sends and receives.
const loudest = "--zap-log-level=10"

// secretsRun uses every kind of secret. Everybody who receives a secret repeats it.
type secretsRun struct {
	*tenant
	*repeater
	search
	manager, direct, proxied *operator.Process
	// answers has all responses of ingest.
	answers strings.Builder
}

// postbackCase is a Postback with a usable or an unusable secret.
type postbackCase struct {
	name string
	// spec is the rest of the manifest.
	spec string
	// outcome is the outcome of each attempt, or "" for a Postback that is not Ready. Then reason is its reason.
	outcome v1alpha1.Outcome
	reason  string
}

// TestSecretsNeverAppear looks for every secret of a run in all output of the operator, at the highest verbosity.
func TestSecretsNeverAppear(t *testing.T) {
	r := &secretsRun{tenant: newTenant(t), search: search{secrets: map[string]string{}, places: map[string]string{}}}
	r.repeater = startRepeater(t, r.tenant.secrets)
	r.startLoudly()
	r.makeSecrets()
	cases := r.cases()
	for _, c := range cases {
		r.kubectlWith("apiVersion: postback.dev/v1alpha1\nkind: Postback\nmetadata: {name: "+c.name+"}\nspec:\n  triggers: [case."+c.name+"]\n"+c.spec, "create", "-f", "-")
	}
	r.refuseUserinfo()
	r.waitRouted(cases)
	r.rotate()
	r.postAll(cases)
	r.postBadly()
	r.waitAttempts(cases, 1)
	r.kubectl("annotate", "postback", "bearer", v1alpha1.SendTestAnnotation+"=case.bearer/1")
	for _, d := range r.deliveries() {
		r.object(d, r.direct)
	}
	r.kubectl("annotate", "postbackdelivery", "--all", v1alpha1.RedeliverAnnotation+"=again")
	r.waitAttempts(cases, 2)
	eventually(t, func() error {
		if !strings.Contains(r.direct.Log(), "Unsolicited response") {
			return fmt.Errorf("the second answer to one request is not in the log")
		}
		return nil
	})

	r.learnSecrets()
	planted := r.secret("planted in an annotation", "")
	r.kubectl("annotate", "postback", "bearer", "note="+planted)
	r.collect()
	r.checkPlaces()
	found := r.findings(t)
	inPlain := func(finding string) bool {
		// The URL is visible in spec. The planted text proves that the search finds visible texts.
		return strings.Contains(finding, " postbacks, as ") && (strings.HasPrefix(finding, "planted") || strings.HasPrefix(finding, "token of a URL"))
	}
	for _, finding := range found {
		if !inPlain(finding) {
			t.Error("found: " + finding)
		}
	}
	for _, name := range []string{"planted in an annotation", "token of a URL"} {
		for _, place := range []string{"kubectl get", "kubectl describe"} {
			if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, name+" in "+place+" postbacks") }) {
				t.Errorf("%s is not found in %s postbacks", name, place)
			}
		}
	}
	t.Logf("looked for %d secrets in %d places", len(r.search.secrets), len(r.places))
}

// startLoudly replaces the shared processes by others at the highest log level.
func (r *secretsRun) startLoudly() {
	t := r.t
	t.Helper()
	without(t, dispatcher)
	without(t, manager)
	var err error
	if r.manager, err = op.StartManager(t.Context(), "postback-manager-loud", operator.WithArgs("--allow-plain-http", loudest), operator.WithRestarts()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminate(t, r.manager) })
	// This replica owns the retries. The one with the proxy starts only then.
	r.direct = startDispatcher(t, "postback-dispatcher-loud", operator.WithArgs(loudest))
	eventually(t, func() error {
		lease := &coordinationv1.Lease{}
		if err := api.Get(t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: v1alpha1.RetriesLeaseName}, lease); err != nil {
			return err
		}
		if holder := ptr.Deref(lease.Spec.HolderIdentity, ""); holder != r.direct.Name {
			return fmt.Errorf("%q owns the retries", holder)
		}
		return nil
	})
	password := r.secret("password for the proxy", "pr0xy/")
	r.add("credentials for the proxy", base64.StdEncoding.EncodeToString([]byte("egress:"+password)))
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("egress:"+password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{loudest, "--egress-proxy=" + r.proxy, "--egress-proxy-credentials-file=" + file}
	if op.NATS != nil {
		// Otherwise the two replicas would share the stream.
		args = append(args, "--nats-stream-prefix=PROXIED")
	}
	r.proxied = startDispatcher(t, "postback-dispatcher-proxied", operator.WithArgs(args...))
}

// secret returns a new secret with a prefix, and adds it to the search.
func (r *secretsRun) secret(name, beginning string) string {
	text := beginning + rand.Text()
	r.add(name, text)
	return text
}

// learnSecrets adds the namespace's Secrets, the credentials that the repeater received, and the tokens of all
// processes.
func (r *secretsRun) learnSecrets() {
	t := r.t
	t.Helper()
	list := &corev1.SecretList{}
	if err := api.List(t.Context(), list, client.InNamespace(r.namespace)); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		for key, value := range list.Items[i].Data {
			public := strings.HasSuffix(key, ".crt") || string(value) == "Aladdin"
			if !public {
				r.add("Secret "+list.Items[i].Name+"/"+key, string(value))
			}
		}
	}
	for _, key := range r.tenant.secrets() {
		r.add("key "+key.Name, key.Value)
	}
	for name, text := range r.credentials() {
		r.add(name, text)
	}
	r.add("basic credentials", base64.StdEncoding.EncodeToString([]byte("Aladdin:"+r.search.secrets["Secret basic-login/password"])))
	secret := url.QueryEscape(r.search.secrets["Secret client-secret/secret"])
	r.add("client credentials", base64.StdEncoding.EncodeToString([]byte("dispatcher:"+secret)))
	r.add("token of the sender", r.token)
	for _, p := range []*operator.Process{r.manager, r.direct, r.proxied} {
		config, err := clientcmd.LoadFromFile(filepath.Join(op.Dir, p.Name+".kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range config.AuthInfos {
			r.add("token of "+p.Name, user.Token)
		}
	}
	if len(r.search.secrets) < 60 {
		t.Errorf("the run made %d secrets only", len(r.search.secrets))
	}
}

// collect reads all output of the operator and the API, except the data of Secrets.
func (r *secretsRun) collect() {
	t := r.t
	t.Helper()
	kubectl := func(place string, args ...string) {
		stdout, stderr, err := cp.Kubectl(context.Background(), "", append(args, "--all-namespaces")...)
		if err != nil {
			t.Fatal(err)
		}
		r.places[place] = stdout + stderr
	}
	for _, kind := range []string{"postbacks", "postbacksecrets", "postbackdeliveries", "leases", "configmaps", "pods", "serviceaccounts", "events.v1.events.k8s.io"} {
		kubectl("kubectl get "+kind, "get", kind, "-o", "json", "--show-managed-fields")
		kubectl("kubectl describe "+kind, "describe", kind)
		kubectl("kubectl get -o wide "+kind, "get", kind, "-o", "wide")
	}
	kubectl("the metadata of Secrets", "get", "secrets", "-o", "jsonpath={.items[*].metadata}")
	kubectl("kubectl describe secrets", "describe", "secrets")
	kubectl("kubectl events", "events")
	if op.NATS != nil {
		r.places["the files of NATS"] = streamFiles(t)
	}
	r.places["the answers of ingest"] = r.answers.String()
	for _, p := range []*operator.Process{r.manager, r.direct, r.proxied} {
		r.places["the log of "+p.Name] = p.Log()
		for what, address := range map[string]string{"metrics": p.MetricsURL(), "readiness": p.ReadyURL() + "?verbose"} {
			response, err := http.Get(address)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(response.Body)
			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.places["the "+what+" of "+p.Name] = string(content)
		}
	}
}

// checkPlaces checks that the searched texts are not empty.
func (r *secretsRun) checkPlaces() {
	r.t.Helper()
	for place, texts := range map[string][]string{
		"the log of " + r.manager.Name:     {"Starting", "Level(-5)", r.namespace},
		"the log of " + r.direct.Name:      {"Attempted", "Level(-5)", "Unsolicited response", "unauthenticated"},
		"the log of " + r.proxied.Name:     {"Attempted", "ProxyFailed"},
		"the metrics of " + r.manager.Name: {"controller_runtime_reconcile_total"},
		"the metrics of " + r.direct.Name:  {"postback_attempts_total"},
		"the metrics of " + r.proxied.Name: {"postback_attempts_total"},
		"the answers of ingest":            {"202 Accepted", "urn:postback:problem:unauthenticated", "urn:postback:problem:forbidden", "urn:postback:problem:invalid-event"},
		"kubectl get postbackdeliveries":   {repeated, "[redacted]", "redirects are not followed", "the egress proxy failed"},
		"kubectl get postbacks":            {"InvalidTLS", "InvalidAuth", "InvalidHeader", "managedFields"},
		"kubectl get postbacksecrets":      {"InvalidKey", "rotate-secret"},
		"kubectl describe postbacks":       {"InvalidTLS"},
		"kubectl get leases":               {r.direct.Name},
		"kubectl events":                   {v1alpha1.AttemptFailedReason, "InvalidKey"},
		"the metadata of Secrets":          {"postback.dev/rotated-at"},
	} {
		for _, text := range texts {
			if !strings.Contains(r.places[place], text) {
				r.t.Errorf("%s does not hold %q", place, text)
			}
		}
	}
	if op.NATS != nil && !strings.Contains(r.places["the files of NATS"], "evt_header-raw") {
		r.t.Error("the files of NATS do not hold the event of a success")
	}
	for place, text := range r.places {
		if text == "" {
			r.t.Errorf("%s is empty", place)
		}
	}
}
