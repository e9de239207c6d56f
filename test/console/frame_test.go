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
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/portal"
)

const exampleDir = "../../docs/examples/portal-embed"

// platform is the site of a platform with the page of docs/examples/portal-embed. Its name is localhost, and the portal's
// is an address, so that they are two sites.
type platform struct {
	origin string
	// portal is set before the page is opened.
	portal *served
	link   func() string
}

func servePlatform(t *testing.T) *platform {
	t.Helper()
	p := &platform{}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(exampleDir)))
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /embed.js", func(w http.ResponseWriter, _ *http.Request) {
		script, err := os.ReadFile(filepath.Join(exampleDir, "embed.js"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write([]byte(strings.ReplaceAll(string(script), "https://postbacks.example.com", p.portal.server.URL)))
	})
	mux.HandleFunc("POST /postbacks", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, p.link(), http.StatusSeeOther) })
	server := httptest.NewTLSServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p.origin = "https://localhost:" + port
	return p
}

// open opens the platform's page with a portal in its frame.
func (p *platform) open(t *testing.T, s *served, link func() string) *page {
	t.Helper()
	p.portal, p.link = s, link
	around := openProfile(t, p.origin)
	around.do(chromedp.Navigate(p.origin + "/"))
	return around
}

// frame returns the portal's page in the frame.
func (p *page) frame(base string) *page {
	return &page{t: p.t, ctx: p.ctx, base: base, framed: true}
}

// evaluateInFrame returns the value of an expression in the frame whose address begins with base.
func evaluateInFrame(ctx context.Context, base, expression string) (string, error) {
	var value string
	return value, chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		tree, err := cdp.Call(ctx, t, cdppage.GetFrameTree, cdp.Empty{})
		if err != nil {
			return err
		}
		for _, child := range tree.FrameTree.ChildFrames {
			if !strings.HasPrefix(child.Frame.URL, base) {
				continue
			}
			world, err := cdp.Call(ctx, t, cdppage.CreateIsolatedWorld, cdppage.CreateIsolatedWorldParams{FrameID: child.Frame.ID})
			if err != nil {
				return err
			}
			result, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: expression, ContextID: world.ExecutionContextID, ReturnByValue: ptr.To(true)})
			if err != nil {
				return err
			}
			if result.ExceptionDetails != nil {
				return fmt.Errorf("%s: %s", expression, result.ExceptionDetails.Text)
			}
			return json.Unmarshal(result.Result.Value, &value)
		}
		return errNoFrame
	}))
}

var errNoFrame = errors.New("the frame shows no page of the portal")

// TestPortalInAFrame adds a Postback in the frame of a named platform. The frames of others stay empty.
func TestPortalInAFrame(t *testing.T) {
	n := newTenant(t)
	if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-n", n.namespace, "-f", "../../config/samples/portal_partner.yaml"); err != nil {
		t.Fatal(err, stderr)
	}
	token := n.as("postback-portal-link-requester").BearerToken
	named, other := servePlatform(t), servePlatform(t)
	s := servePortal(t, func(o *portal.Options) { o.EmbedOrigins = named.origin })
	closed := servePortal(t)
	linkOf := func(s *served) func() string { return func() string { return s.link(token, n.namespace, "editor") } }

	// A frame of another site is in the process of its page here, so that the test reaches it. The rules of the browser
	// for frames and cookies stay the same.
	shared := browser
	path, err := findBrowser()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := startBrowser(path, chromedp.Flag("disable-site-isolation-trials", true), chromedp.Flag("disable-features", "SitePerProcess,IsolateOrigins"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		browser = shared
	})

	around := named.open(t, s, linkOf(s))
	inside := around.frame(s.server.URL)
	// The link signs in without a click.
	inside.see(".empty", "No Postbacks yet")
	inside.wait(`document.querySelector('#live')?.dataset.state === 'live'`)
	around.wait(`document.querySelector('iframe').style.height !== ''`)
	low, _ := around.eval(`parseInt(document.querySelector('iframe').style.height)`).(float64)
	inside.eval(`document.querySelector(".title a[href='/new']").click()`)
	inside.see("#dialog-title", "Add a Postback")
	// The frame makes room for the dialog.
	around.wait(fmt.Sprintf(`parseInt(document.querySelector('iframe').style.height) > %v`, low))
	around.picture("portal-frame")
	inside.fill("name", "crm")
	inside.fill("url", n.endpoint.URL(hooks))
	inside.fill("triggers", "lead.created")
	inside.eval(`document.querySelector("#dialog .primary").click()`)
	inside.see("#dialog", "crm is added")
	eventually(t, func() error {
		return api.Get(t.Context(), client.ObjectKey{Namespace: n.namespace, Name: "crm"}, &v1alpha1.Postback{})
	})
	// The session is of this frame alone: without the platform around it, the browser is not signed in.
	alone := around.tab()
	alone.do(chromedp.Navigate(s.server.URL + "/"))
	alone.see("main", "You are not signed in")
	alone.takeProblems()

	for name, refused := range map[string]struct {
		around *platform
		portal *served
	}{"a platform that is not named": {other, s}, "a portal without named origins": {named, closed}} {
		t.Run(name, func(t *testing.T) {
			around := refused.around.open(t, refused.portal, linkOf(refused.portal))
			eventually(t, func() error {
				around.mu.Lock()
				defer around.mu.Unlock()
				for _, problem := range around.problems {
					if strings.Contains(problem, "frame-ancestors") {
						return nil
					}
				}
				return errors.New("the browser does not refuse the frame")
			})
			if height := around.eval(`document.querySelector('iframe').style.height`); height != "" {
				t.Errorf("the page hears a height: %v", height)
			}
			around.takeProblems()
		})
	}
}
