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

package start_test

import (
	"bytes"
	"errors"
	"flag"
	stdlog "log"
	"strings"
	"testing"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/postback-dev/postback-operator/internal/start"
)

// The log contains no request body of client-go at any verbosity, and no text that the standard library quotes.
func TestLogShowsNoBodiesAndNoQuotes(t *testing.T) {
	var written bytes.Buffer
	o := zap.Options{DestWriter: &written}
	flags := flag.NewFlagSet("", flag.PanicOnError)
	o.BindFlags(flags)
	if err := flags.Parse([]string{"--zap-log-level=100"}); err != nil {
		t.Fatal(err)
	}
	log := start.Log(o)
	t.Cleanup(func() { stdlog.SetOutput(t.Output()) })
	log.V(start.MaxVerbosity).Info("a request")
	for _, l := range []interface{ Enabled() bool }{
		log.V(start.MaxVerbosity + 1), ctrl.Log.V(start.MaxVerbosity + 1), klog.FromContext(t.Context()).V(start.MaxVerbosity + 1),
	} {
		if l.Enabled() {
			t.Error("bodies are logged")
		}
	}
	stdlog.Printf("Unsolicited response starting with %q; err=%v", "s3cret", nil)
	stdlog.Printf("harmless")
	if got := written.String(); !strings.Contains(got, "a request") || !strings.Contains(got, "Unsolicited response starting with (left out)") ||
		!strings.Contains(got, "harmless") || strings.Contains(got, "s3cret") {
		t.Errorf("the log is %s", got)
	}
}

func TestValuesOfALoggerAreWritten(t *testing.T) {
	var written bytes.Buffer
	log := start.Log(zap.Options{DestWriter: &written})
	t.Cleanup(func() { stdlog.SetOutput(t.Output()) })
	parent := log.WithName("retry").WithValues("controller", "retry")
	first, second := parent.WithValues("delivery", "first"), parent.WithValues("delivery", "second")
	first.Info("one", "attempt", 1)
	second.Error(errors.New("cause"), "two", "attempt", 2)
	for _, want := range []string{
		`"logger":"retry","msg":"one","controller":"retry","delivery":"first","attempt":1}`,
		`"logger":"retry","msg":"two","controller":"retry","delivery":"second","attempt":2,"error":"cause"`,
	} {
		if !strings.Contains(written.String(), want) {
			t.Errorf("%s is not in the log:\n%s", want, &written)
		}
	}
}
