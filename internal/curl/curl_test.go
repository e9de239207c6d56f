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

package curl

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// objectsVariable is an environment variable that makes this test program act as kubectl, with the objects in a file.
const objectsVariable = "CURL_TEST_OBJECTS"

func TestMain(m *testing.M) {
	if file := os.Getenv(objectsVariable); file != "" {
		if err := kubectl(file, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "Error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// kubectl answers "get KIND NAME -o go-template=TEMPLATE" from a file of objects.
func kubectl(file string, args []string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var objects map[string]any
	if err := json.Unmarshal(content, &objects); err != nil {
		return err
	}
	get := slices.Index(args, "get")
	object, ok := objects[args[get+1]+"/"+args[get+2]]
	if !ok {
		return fmt.Errorf("%q not found", args[get+2])
	}
	decode := func(text string) (string, error) {
		decoded, err := base64.StdEncoding.DecodeString(text)
		return string(decoded), err
	}
	t, err := template.New("").Funcs(template.FuncMap{"base64decode": decode}).Parse(strings.TrimPrefix(args[get+4], "go-template="))
	if err != nil {
		return err
	}
	return t.Execute(os.Stdout, object)
}

// run runs a script and returns the arguments of its curl, one on each line.
func run(t *testing.T, script string, objects map[string]any) (arguments, output string, err error) {
	t.Helper()
	folder := t.TempDir()
	content, err := json.Marshal(objects)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"objects": string(content),
		"kubectl": "#!/bin/sh\n" + objectsVariable + "=" + quote(filepath.Join(folder, "objects")) + " exec " + quote(program) + ` "$@"` + "\n",
		"curl":    "#!/bin/sh\nprintf '%s\\n' \"$@\" >" + quote(filepath.Join(folder, "arguments")) + "\ncat >/dev/null\n",
		// This test does not check signatures.
		"openssl": "#!/bin/sh\ncat >/dev/null\necho 00\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "sh")
	command.Stdin = strings.NewReader(script)
	command.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"))
	combined, failed := command.CombinedOutput()
	sent, err := os.ReadFile(filepath.Join(folder, "arguments"))
	if err != nil && failed == nil {
		t.Fatal(err)
	}
	return string(sent), string(combined), failed
}

func postback() *v1alpha1.Postback {
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "crm"}}
	p.Spec.URL = "https://example.com/hooks?list=[1]&access_token=s3cret-query"
	p.Spec.Headers = []v1alpha1.Header{
		{Name: "X-Tenant", Value: ptr.To("a'cme")},
		{Name: "AUTHORIZATION", Value: ptr.To(`Bearer s3cret'"$(exit 3)` + "`\\")},
		{Name: "X$`Api-Key", Value: ptr.To("s3cret-key")},
		{Name: "Cookie", Value: ptr.To("")},
		{Name: "X-Other", ValueFrom: &v1alpha1.HeaderSource{SecretKeyRef: &v1alpha1.SecretKeySelector{Name: "other", Key: "token"}}},
	}
	return p
}

func objects(p *v1alpha1.Postback) map[string]any {
	data := func(name, value string) map[string]any {
		return map[string]any{"data": map[string]any{name: base64.StdEncoding.EncodeToString([]byte(value))}}
	}
	return map[string]any{
		"postbacks.postback.dev/crm": p, "secret/crm": data(v1alpha1.SigningKeyName, "whsec_AAAA"), "secret/other": data("token", "s3cret-other"),
	}
}

func TestScriptHoldsNoCredentialAndSendsAll(t *testing.T) {
	p := postback()
	script := Script(p, &v1alpha1.PostbackDelivery{}, Kubectl{})
	if strings.Contains(script, "s3cret") {
		t.Errorf("the script holds a credential:\n%s", script)
	}
	arguments, output, err := run(t, script, objects(p))
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, want := range []string{
		p.Spec.URL, "X-Tenant: a'cme", `AUTHORIZATION: Bearer s3cret'"$(exit 3)` + "`\\", "X$`Api-Key: s3cret-key", "Cookie;", "X-Other: s3cret-other",
	} {
		if !slices.Contains(strings.Split(arguments, "\n"), want) {
			t.Errorf("curl does not get %s:\n%s", want, arguments)
		}
	}
}

// The script sends nothing if a value cannot be read.
func TestScriptEndsWithoutACredential(t *testing.T) {
	p := postback()
	script := Script(p, &v1alpha1.PostbackDelivery{}, Kubectl{})
	changed := p.DeepCopy()
	changed.Spec.Headers = changed.Spec.Headers[:1]
	for name, test := range map[string]struct {
		objects map[string]any
		want    string
	}{
		"a header that is gone":   {objects(changed), "the header has no value any more"},
		"a Postback that is gone": {map[string]any{}, `"crm" not found`},
		"a Secret that is gone":   {map[string]any{"postbacks.postback.dev/crm": p, "secret/crm": objects(p)["secret/crm"]}, `"other" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			arguments, output, err := run(t, script, test.objects)
			if err == nil || arguments != "" || !strings.Contains(output, test.want) {
				t.Errorf("it ends with %v, curl %q: %s", err, arguments, output)
			}
		})
	}
}

func TestHeadersHideCredentials(t *testing.T) {
	shown := fmt.Sprint(Headers(postback(), &v1alpha1.PostbackDelivery{}))
	if strings.Contains(shown, "s3cret") || !strings.Contains(shown, "hidden") || !strings.Contains(shown, "a'cme") {
		t.Errorf("the headers are shown as %s", shown)
	}
}
