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

package plugin

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// token FILE writes a producer's token to a file.
func token(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: token FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.Getenv("TOKEN")+"\n"), 0o600))
}

// execPlugin TOKENFILE writes exec.kubeconfig, whose user gets the token from a program, as with cloud providers.
func execPlugin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: execplugin TOKENFILE")
	}
	config, err := clientcmd.LoadFromFile(ts.Getenv("KUBECONFIG"))
	ts.Check(err)
	script := fmt.Sprintf(`printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%%s"}}' "$(cat %s)"`, ts.MkAbs(args[0]))
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
			APIVersion: "client.authentication.k8s.io/v1", Command: "sh", Args: []string{"-c", script}, InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		}}
	}
	ts.Check(clientcmd.WriteToFile(*config, ts.MkAbs("exec.kubeconfig")))
}

// kept HEADERS BODY writes the header and body of the endpoint's newest request to files.
func kept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: kept HEADERS BODY")
	}
	requests := endpointOf(ts).Requests("/hooks")
	newest := requests[len(requests)-1]
	var lines []string
	for name, values := range newest.Header {
		lines = append(lines, name+": "+values[0])
	}
	slices.Sort(lines)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("POST /hooks HTTP/1.1\n"+strings.Join(lines, "\n")+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), newest.Body, 0o600))
}

// listening waits until a server listens at $LISTEN.
func listening(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: listening")
	}
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		connection, err := net.DialTimeout("tcp", ts.Getenv("LISTEN"), time.Second)
		if err == nil {
			ts.Check(connection.Close())
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			ts.Fatalf("nothing listens: %v", err)
		}
	}
}
