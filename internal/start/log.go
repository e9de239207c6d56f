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

package start

import (
	"bytes"
	stdlog "log"

	"github.com/go-logr/logr"
	uberzap "go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// MaxVerbosity is the highest level at which the log shows no secret. At the next level, client-go logs the bodies of
// its requests to the API server, with Secrets and the tokens of producers.
const MaxVerbosity = 7

// Log makes the log of a program. controller-runtime, klog and the standard library write to it as well.
func Log(o zap.Options) logr.Logger {
	if o.Level != nil && o.Level.Enabled(-MaxVerbosity-1) {
		o.Level = uberzap.NewAtomicLevelAt(zapcore.Level(-MaxVerbosity))
	}
	log := zap.New(zap.UseFlagOptions(&o))
	log = log.WithSink(late{LogSink: log.GetSink()})
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	stdlog.SetFlags(0)
	stdlog.SetOutput(&standardLog{log})
	return log
}

// standardLog passes on lines of the standard library, without the text that they quote. net/http quotes unsolicited
// responses, which may repeat a credential.
type standardLog struct {
	log logr.Logger
}

// Write implements io.Writer.
func (l *standardLog) Write(line []byte) (int, error) {
	text, _, quotes := bytes.Cut(bytes.TrimSpace(line), []byte(`"`))
	if quotes {
		text = append(text[:len(text):len(text)], "(left out)"...)
	}
	l.log.Info("The standard library says", "text", string(text))
	return len(line), nil
}
