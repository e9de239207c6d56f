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

package portal

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

const examplesDir = "../docs/examples/portal-links"

// example is a backend of docs/examples/portal-links.
type example struct {
	name string
	// command returns its command line.
	command func(t *testing.T) []string
}

var examples = []example{
	{"go", func(t *testing.T) []string {
		t.Helper()
		program := filepath.Join(t.TempDir(), "backend")
		if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, examplesDir+"/go").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		return []string{program}
	}},
	{"node", func(t *testing.T) []string { return []string{interpreter(t, "node"), examplesDir + "/server.mjs"} }},
	// -B keeps Python from writing bytecode files into the source.
	{"python", func(t *testing.T) []string {
		return []string{interpreter(t, "python3"), "-B", examplesDir + "/server.py"}
	}},
}

// interpreter returns the path of a program, or skips the test.
func interpreter(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s, so this example is not tested here", name)
	}
	return path
}

// serveTLS serves a replica over HTTPS, and returns its address and a file with its certificate.
func serveTLS(t *testing.T, r *replica) (address, file string) {
	t.Helper()
	server := httptest.NewTLSServer(r.portal.Handler())
	t.Cleanup(server.Close)
	file = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, file
}

// TestExamplesOfBackends runs the backends of the documentation. Each redirects a browser to a link that signs it in.
// A reported refusal does not contain the token.
func TestExamplesOfBackends(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "example-acme")
	token := backend(t, acme)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address, ca := serveTLS(t, r)
	env := []string{"PORTAL_URL=" + address, "TOKEN_FILE=" + tokenFile, "PARTNER=" + acme, "SSL_CERT_FILE=" + ca, "NODE_EXTRA_CA_CERTS=" + ca}
	for _, example := range examples {
		t.Run(example.name, func(t *testing.T) {
			command := example.command(t)
			answer, _ := runExample(t, command, env)
			link := answer.Header.Get("Location")
			code, found := strings.CutPrefix(link, "https://"+host+"/signin#")
			if answer.StatusCode != http.StatusSeeOther || !found || answer.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("the browser is answered with %s %v", answer.Status, answer.Header)
			}
			if got := r.open(code); got.StatusCode != http.StatusNoContent {
				t.Errorf("the code is answered with %s", got.Status)
			}

			refused, log := runExample(t, command, append(env, "ROLE=admin"))
			if refused.StatusCode != http.StatusBadGateway || !strings.Contains(log, "422") || !strings.Contains(log, "must be one of viewer, editor, key-reader") {
				t.Errorf("the browser is answered with %s, and the backend logs %q", refused.Status, log)
			}
			if strings.Contains(log, token) {
				t.Error("the backend logs its token")
			}
		})
	}
}

// runExample starts a backend and opens its page once. It returns the response and the backend's log.
func runExample(t *testing.T, commandLine, env []string) (response *http.Response, log string) {
	t.Helper()
	port, err := controlplane.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	command := exec.CommandContext(t.Context(), commandLine[0], commandLine[1:]...)
	command.Env = append(append(os.Environ(), env...), fmt.Sprintf("PORT=%d", port))
	command.Stderr = &written
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	gomega.NewWithT(t).Eventually(func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/postbacks", port), http.NoBody)
		if err != nil {
			return err
		}
		if response, err = browser.Do(request); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}).WithTimeout(patience).WithPolling(100 * time.Millisecond).Should(gomega.Succeed())
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	_ = command.Process.Kill()
	_ = command.Wait() // The error reports the kill. After it, the log is complete.
	return response, written.String()
}
