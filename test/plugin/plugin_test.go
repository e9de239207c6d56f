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

// Package plugin tests the kubectl plugin as a program: scripts run it by the real kubectl, with a real API server
// and the operator's programs.
package plugin

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// update writes the plugin's output into the scripts, for inspection.
var update = flag.Bool("update", false, "update the expected output in the scripts")

// All scripts share this installation.
var (
	cp         *controlplane.ControlPlane
	op         *operator.Operator
	api        client.Client
	dispatcher *operator.Process
)

func TestMain(m *testing.M) {
	os.Exit(operator.RunTests(m, start))
}

func start(ctx context.Context, installed *operator.Operator) error {
	op, cp = installed, installed.ControlPlane
	var err error
	if api, err = cp.Client(); err != nil {
		return err
	}
	if err := build(ctx); err != nil {
		return err
	}
	if _, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http"), operator.WithRestarts()); err != nil {
		return err
	}
	if dispatcher, err = op.StartDispatcher(ctx, "postback-dispatcher-0"); err != nil {
		return err
	}
	return startPortal(ctx)
}

// build builds the plugin into the folder of the operator's programs, which is in the PATH of the scripts.
func build(ctx context.Context) error {
	root, err := controlplane.ModuleRoot()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", op.Dir+"/", "./cmd/kubectl-postback")
	command.Dir, command.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build the plugin: %w:\n%s", err, output)
	}
	return nil
}

// endpointKey is the key of a script's endpoint.
type endpointKey struct{}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               setUp,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"normalise":  normalise,
			"answer":     answer,
			"received":   received,
			"post":       post,
			"until":      until,
			"token":      token,
			"execplugin": execPlugin,
			"kept":       kept,
			"listening":  listening,
			"signin":     signIn,
		},
	})
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// setUp prepares a script: a namespace with its name, an endpoint at $URL, and a kubeconfig.
func setUp(env *testscript.Env) error {
	ctx := context.Background()
	namespace := "kp-" + strings.Trim(notName.ReplaceAllString(strings.ToLower(strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")), "-"), "-")
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := api.Create(ctx, object); err != nil {
		return err
	}
	endpoint, err := receiver.Start(func() []receiver.Secret { return secrets(ctx, namespace) })
	if err != nil {
		return err
	}
	env.Defer(func() {
		_ = api.Delete(ctx, object)
		_ = endpoint.Close()
	})
	token, err := op.SenderToken(ctx, namespace)
	if err != nil {
		return err
	}
	config, err := os.ReadFile(cp.Kubeconfig)
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(env.WorkDir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, config, 0o600); err != nil {
		return err
	}
	env.Values[endpointKey{}] = endpoint
	port, err := controlplane.FreePort()
	if err != nil {
		return err
	}
	listen := strconv.Itoa(port)
	for name, value := range map[string]string{
		"NS": namespace, "URL": endpoint.URL("/hooks"), "HOST": endpoint.Address(), "TOKEN": token, "INGEST": dispatcher.IngestURL(), "LISTEN": "127.0.0.1:" + listen, "LISTENPORT": listen,
		"PORTAL": portalServer.URL, "PORTALCA": portalCA, "PARTNER": partnerFile,
		"KUBECONFIG": kubeconfig, "HOME": env.WorkDir, "TZ": "UTC", "PATH": op.Dir + ":" + cp.AssetsDir + ":" + os.Getenv("PATH"),
	} {
		env.Setenv(name, value)
	}
	return exec.CommandContext(ctx, filepath.Join(cp.AssetsDir, "kubectl"), "--kubeconfig", kubeconfig, "config", "set-context", "--current", "--namespace", namespace).Run()
}

// secrets returns the keys in the Secrets of a namespace.
func secrets(ctx context.Context, namespace string) []receiver.Secret {
	list := &corev1.SecretList{}
	if api.List(ctx, list, client.InNamespace(namespace)) != nil {
		return nil
	}
	var found []receiver.Secret
	for i := range list.Items {
		if key := list.Items[i].Data[v1alpha1.SigningKeyName]; len(key) > 0 {
			found = append(found, receiver.Secret{Name: list.Items[i].Name, Value: string(key)})
		}
	}
	return found
}

// varying maps text that varies from run to run to placeholders. In tables, the white space before the text must be
// normalised as well.
var varying = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.]\d+)?Z`), "<time>"},
	{regexp.MustCompile(`\b(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\b`), "<clock>"},
	{regexp.MustCompile(`\b(\d+m)?\d+s ago\b`), "<ago>"},
	{regexp.MustCompile(`\bin (\d+[hms])+`), "in <while>"},
	{regexp.MustCompile(`\b[\d.]+ms\b|<1ms|\b\d+[.]\d+s\b`), "<took>"},
	{regexp.MustCompile(`127[.]0[.]0[.]1:\d+`), "<host>"},
	{regexp.MustCompile(`\bevt_[0-9A-Za-z]{25}\b`), "evt_<id>"},
	{regexp.MustCompile(`\b([a-z]+)-[a-z2-7]{26}\b`), "$1-<hash>"},
	{regexp.MustCompile(`whsec_…[0-9A-Za-z+/=]{4}`), "whsec_…<end>"},
	{regexp.MustCompile(`(?m) +$`), ""},
	{regexp.MustCompile(`(\S)   +`), "$1   "},
}

// normalise FILE replaces the varying text in a file, or in the last output ("stdout", "stderr"), and writes it to
// FILE.out.
func normalise(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: normalise stdout|stderr|FILE")
	}
	text := strings.ReplaceAll(ts.ReadFile(args[0]), ts.Getenv("NS"), "<namespace>")
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), []byte(text), 0o600))
}

func endpointOf(ts *testscript.TestScript) *receiver.Receiver {
	endpoint, ok := ts.Value(endpointKey{}).(*receiver.Receiver)
	if !ok {
		ts.Fatalf("the script has no endpoint")
	}
	return endpoint
}

// answer STATUS [TIMES [BODY [RETRY-AFTER]]] sets how the endpoint answers from now on.
func answer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 4 {
		ts.Fatalf("usage: answer STATUS [TIMES [BODY [RETRY-AFTER]]]")
	}
	var a receiver.Answer
	var err error
	a.Status, err = strconv.Atoi(args[0])
	ts.Check(err)
	if len(args) > 1 {
		a.Times, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	if len(args) > 2 {
		a.Body, err = strconv.Unquote(`"` + args[2] + `"`)
		ts.Check(err)
	}
	if len(args) > 3 {
		a.Header = http.Header{"Retry-After": {args[3]}}
	}
	endpointOf(ts).Answer("/hooks", a)
}

const patience = time.Minute

// received N waits until the endpoint has received N requests, and checks that each is signed.
func received(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: received N")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	requests, err := endpointOf(ts).Wait(ctx, "/hooks", n)
	ts.Check(err)
	for i := range requests {
		if !requests[i].Verified() {
			ts.Fatalf("request %d verified by %v and %v", i+1, requests[i].StandardWebhooks, requests[i].Dub)
		}
	}
}

// post JSON posts events as a producer.
func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: post JSON")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, dispatcher.IngestURL()+"/v1/namespaces/"+ts.Getenv("NS")+"/events", strings.NewReader(args[0]))
	ts.Check(err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+ts.Getenv("TOKEN"))
	response, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	if response.StatusCode != http.StatusAccepted {
		ts.Fatalf("ingest answers %d: %s", response.StatusCode, body)
	}
}

// until REGEXP COMMAND... repeats a command until its output matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND...")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		err := ts.Exec(args[1], args[2:]...)
		output := ts.ReadFile("stdout")
		if err == nil && pattern.MatchString(output) {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			ts.Fatalf("%v: %v; the last output:\n%s", args, err, bytes.TrimSpace([]byte(output)))
		}
	}
}
