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
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/console/look"
)

const (
	// LookName is the name of the ConfigMap with the look, in the portal's namespace.
	LookName = "postback-portal-look"
	// lookEvery is the interval at which the portal reads its look. The kubelet takes about a minute to bring a change.
	lookEvery = 10 * time.Second
	// maxNote bounds the text of an Event in bytes, as the API server does.
	maxNote = 1000
	// maxOrigins bounds the origins that may embed the pages, which each page names.
	maxOrigins = 20
)

// looks keeps the presentation of the pages current with the files of a ConfigMap. A look that cannot be used leaves
// the last one in place.
type looks struct {
	dir       string
	origins   []string
	api       kubernetes.Interface
	namespace string
	log       logr.Logger
	present   atomic.Pointer[console.Presentation]

	// version and refused describe the files of the last time.
	version, refused string
}

// newLooks returns looks with the look of the folder, or with the default look if it cannot be used.
func newLooks(o Options, origins []string, api kubernetes.Interface) (*looks, error) {
	l := &looks{dir: o.LookDir, origins: origins, api: api, namespace: o.Namespace, log: o.Log}
	if err := l.show(look.Default); err != nil {
		return nil, err
	}
	l.read(context.Background())
	return l, nil
}

func (l *looks) show(what *look.Look) error {
	p, err := console.NewPresentation(what, l.origins)
	if err != nil {
		return err
	}
	l.present.Store(p)
	l.version, l.refused = what.Version, ""
	return nil
}

// run reads the look again and again until ctx ends.
func (l *looks) run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.read(ctx)
		}
	}
}

// read reads the look, and reports once if it cannot be used.
func (l *looks) read(ctx context.Context) {
	if l.dir == "" {
		return
	}
	dir := l.dir
	// The kubelet replaces all files at once by this link. Its target has files of one time.
	if target, err := filepath.EvalSymlinks(filepath.Join(dir, "..data")); err == nil {
		dir = target
	}
	read, err := look.Read(os.DirFS(dir))
	if err == nil && read.Version == l.version && l.refused == "" {
		return
	}
	if err == nil {
		err = l.show(read)
	}
	switch {
	case err == nil:
		l.log.Info("Look applied", "name", read.Name, "version", read.Version)
	case err.Error() != l.refused:
		l.refused = err.Error()
		l.log.Error(err, "Cannot use the look. The last one stays", "configMap", LookName)
		l.report(ctx, err)
	}
}

// report records an Event at the ConfigMap, where operators look for the reason.
func (l *looks) report(ctx context.Context, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	host, _ := os.Hostname()
	note := err.Error()
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "") + "…"
	}
	_, err = l.api.EventsV1().Events(l.namespace).Create(ctx, &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: LookName + "-", Namespace: l.namespace},
		EventTime:  metav1.NowMicro(), ReportingController: "postback.dev/portal", ReportingInstance: host,
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: l.namespace, Name: LookName},
		Type:      corev1.EventTypeWarning, Reason: "LookRefused", Action: "ReadLook", Note: note,
	}, metav1.CreateOptions{})
	if err != nil {
		l.log.Error(err, "Cannot record why the look is refused")
	}
}

// parseOrigins parses the origins that may embed the pages in a frame.
func parseOrigins(text string) ([]string, error) {
	var origins []string
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		u, err := url.Parse(item)
		if err != nil || u.Scheme != "https" || u.Host == "" || strings.ContainsAny(u.Host, "*;, '\"") || u.Scheme+"://"+u.Host != item {
			return nil, fmt.Errorf("--embed-origins has %q, and must have origins: https:// and a host, without a path or *, such as https://app.example.com", item)
		}
		origins = append(origins, item)
	}
	if len(origins) > maxOrigins {
		return nil, fmt.Errorf("--embed-origins has %d origins, and must have at most %d", len(origins), maxOrigins)
	}
	return origins, nil
}
