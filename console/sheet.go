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

package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/console/text"
	"github.com/postback-dev/postback-operator/internal/curl"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/endpoint"
)

// sheet holds all details of one event's delivery. It is read again, because the feed has no bodies.
type sheet struct {
	Path, Name string
	// Close is the link back to the log. Newer and Older link to the neighbouring events, or are "".
	Close, Newer, Older string
	// D is nil if the delivery does not exist, and Why is the reason. Waiting says that the delivery is expected to
	// appear.
	D       *v1alpha1.PostbackDelivery
	Why     string
	Waiting bool

	Phase    label
	URL      string
	Headers  []curl.Header
	Request  text.Body
	Attempts []attempt
	// Wait is the reason why the next attempt waits.
	Wait wait
	// Hidden is the number of older attempts that the status no longer lists.
	Hidden       int32
	MayRedeliver string
	// InStream says that the delivery is in the waiting stream. MayDrop is "" if the user may drop it, or the reason
	// why not.
	InStream bool
	MayDrop  string
	// Hosted says that visitors have no kubeconfig, which the script of a request needs.
	Hosted bool
}

// attempt is one attempt in the timeline.
type attempt struct {
	*v1alpha1.Attempt
	Outcome  label
	Status   int32
	Duration time.Duration
	Response text.Body
}

func (c *Console) sheetFragment(w http.ResponseWriter, r *http.Request, p *v1alpha1.Postback, may actions) {
	write(w, http.StatusOK, "sheet", c.sheet(r, p, may))
}

// sheet returns the sheet of the delivery in a request's path.
func (c *Console) sheet(r *http.Request, p *v1alpha1.Postback, may actions) *sheet {
	path := pathOf(client.ObjectKeyFromObject(p))
	s := &sheet{Path: path, Name: r.PathValue("delivery"), Close: link(path, r.Form), MayRedeliver: may.Redeliver, MayDrop: may.Drop, Hosted: c.hosted}
	key := types.NamespacedName{Namespace: p.Namespace, Name: s.Name}
	row := c.feed.Row(key)
	if row != nil {
		newer, older := c.feed.Neighbours(row, c.filterOf(r.Form))
		if newer != nil {
			s.Newer = link(path+"/d/"+newer.Name, r.Form)
		}
		if older != nil {
			s.Older = link(path+"/d/"+older.Name, r.Form)
		}
	}
	switch d, err := c.read(r.Context(), key, p); {
	case err == nil && d.Spec.PostbackRef.Name == p.Name:
		s.fill(p, d)
		s.Wait = c.whyRow(p, feed.NewRow(d))
		s.Wait.Why = s.Wait.Behind(c.behind(p, feed.NewRow(d)))
	case err == nil, apierrors.IsNotFound(err):
		s.Waiting = r.FormValue("expected") != ""
		s.Why = noEvent
	default:
		s.Why = explain(err)
	}
	return s
}

// read reads a delivery. It searches the waiting stream only if the Postback has a backlog, because such a search reads
// thousands of deliveries.
func (c *Console) read(ctx context.Context, key types.NamespacedName, p *v1alpha1.Postback) (*v1alpha1.PostbackDelivery, error) {
	if p == nil || p.Status.GetBacklog() == 0 {
		return c.deliveries.Get(ctx, key)
	}
	return c.deliveries.GetOf(ctx, key, p.Name)
}

func (s *sheet) fill(p *v1alpha1.Postback, d *v1alpha1.PostbackDelivery) {
	row := feed.NewRow(d)
	s.D, s.Phase, s.URL = d, phaseOf(row.Phase), endpoint.Masked(p.Spec.URL)
	s.Request, s.Headers = text.Show(d.Spec.Body), curl.Headers(p, d)
	s.InStream = deliveries.IsWaiting(d)
	s.Hidden = row.Attempts - int32(len(d.Status.Attempts))
	for i := range slices.Backward(d.Status.Attempts) {
		a := &d.Status.Attempts[i]
		shown := attempt{Attempt: a, Outcome: outcomeOf(a.Outcome), Duration: a.Duration.Duration, Response: text.Show(a.ResponseBody)}
		if a.StatusCode != nil {
			shown.Status = *a.StatusCode
			shown.Outcome.Text = cmp.Or(http.StatusText(int(shown.Status)), shown.Outcome.Text)
		}
		s.Attempts = append(s.Attempts, shown)
	}
}

// outcomeOf returns the label of an outcome.
func outcomeOf(o v1alpha1.Outcome) label {
	if o == v1alpha1.OutcomeSucceeded {
		return label{Kind: "good", Text: "Succeeded"}
	}
	if o.Ours() {
		return label{Kind: "warn", Text: healthWords[string(o)]}
	}
	return label{Kind: "bad", Text: healthWords[string(o)]}
}

// curl answers with the request as a shell script.
func (c *Console) curl(w http.ResponseWriter, r *http.Request) {
	d := c.delivery(w, r)
	if d == nil {
		return
	}
	p := c.feed.Postback(keyOf(r))
	if p == nil {
		c.noPostback(w, keyOf(r))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(curl.Script(p, d, c.kubectl)))
}

const noEvent = "There is no such event any more. Finished ones are kept as spec.history says."

// delivery reads the delivery in a request's path. If that fails, it answers the request and returns nil.
func (c *Console) delivery(w http.ResponseWriter, r *http.Request) *v1alpha1.PostbackDelivery {
	key := keyOf(r)
	d, err := c.read(r.Context(), types.NamespacedName{Namespace: key.Namespace, Name: r.PathValue("delivery")}, c.feed.Postback(key))
	switch {
	case err == nil && d.Spec.PostbackRef.Name == key.Name:
		return d
	case err == nil, apierrors.IsNotFound(err):
		refuse(w, http.StatusNotFound, noEvent)
	default:
		refuse(w, http.StatusBadGateway, explain(err))
	}
	return nil
}

// body sends the exact body of a delivery as a download, because a browser must not interpret it.
func (c *Console) body(w http.ResponseWriter, r *http.Request) {
	d := c.delivery(w, r)
	if d == nil {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+strings.ReplaceAll(d.Name, `"`, "")+`.json"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(d.Spec.Body)))
	_, _ = w.Write([]byte(d.Spec.Body))
}
