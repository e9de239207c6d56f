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
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/console/guard"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

// routes returns the handler of the pages.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+guard.StaticPath, Static())
	mux.HandleFunc("GET /{$}", bounded(c.list))
	mux.HandleFunc("GET "+LivePath, c.listLive)
	mux.HandleFunc("GET /p/{namespace}/{name}", bounded(c.postback))
	mux.HandleFunc("GET /p/{namespace}/{name}"+LivePath, c.postbackLive)
	mux.HandleFunc("GET /p/{namespace}/{name}/d/{delivery}", bounded(c.postback))
	mux.HandleFunc("GET /p/{namespace}/{name}/d/{delivery}/body", bounded(c.body))
	mux.HandleFunc("GET /p/{namespace}/{name}/d/{delivery}/curl", bounded(c.curl))
	for _, method := range []string{"GET ", "POST "} {
		mux.HandleFunc(method+"/new", bounded(c.create))
		mux.HandleFunc(method+"/p/{namespace}/{name}/do/{action}", bounded(c.act))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, noPage) })
	return mux
}

// LivePath is the suffix of the paths of streams, which last as long as their pages.
const LivePath = "/live"

const noPage = "There is no such page."

// pageTimeout bounds the time to answer a request, because an API server may accept a request and not answer.
const pageTimeout = 30 * time.Second

func bounded(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
		defer cancel()
		page(w, r.WithContext(ctx))
	}
}

// keyOf returns the namespace and name of the Postback in a request's path.
func keyOf(r *http.Request) types.NamespacedName {
	return types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
}

// fragment returns the part of a page that a script requests, or "" for the whole page.
func fragment(r *http.Request) string { return r.Header.Get("X-Fragment") }

// frame is the layout around every page.
type frame struct {
	Title              string
	Namespace, Context string
	// Hosted says that the visitor uses a portal, and can sign out.
	Hosted bool
	// Renewed says that the page renews its session. Namespaces leads to other namespaces, or is "".
	Renewed    bool
	Namespaces string
	Problem    *problem
}

func (c *Console) frame(title string) frame {
	return frame{
		Title: title, Namespace: c.namespace, Context: c.kubectl.Context, Hosted: c.hosted, Renewed: c.renewed, Namespaces: c.namespaces,
		Problem: c.problem(),
	}
}

// problem describes an error that makes the pages incomplete or outdated.
type problem struct {
	// Lost says that the problem may end by itself. Otherwise a person has to act.
	Lost bool
	// Short is a word or two, for the corner of the page.
	Short, Text, Hint string
}

const (
	notCurrent    = "Not current"
	apiServerAway = "API server away"
	logIncomplete = "Log incomplete"
)

// problem returns the present problem of the feed, or nil.
func (c *Console) problem() *problem {
	status := c.feed.Status()
	err := status.Err
	switch {
	case err == nil:
		return c.unreadLog(status.Unread)
	case c.hosted && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)):
		return &problem{Short: notCurrent, Text: "This session may not read the " + status.Kind + " of the namespace " + c.namespace + " any more.", Hint: "Sign in again, or open a new link from where you got the last one."}
	case apierrors.IsForbidden(err) && c.namespace == "":
		return &problem{Short: notCurrent, Text: "You may not list the " + status.Kind + " of all namespaces.", Hint: "Choose one: kubectl postback console -n NAMESPACE."}
	case apierrors.IsForbidden(err):
		return &problem{Short: notCurrent, Text: "You may not list the " + status.Kind + " of the namespace " + c.namespace + ".", Hint: "The roles view, edit and admin of the namespace include it."}
	case apierrors.IsUnauthorized(err):
		return &problem{Short: notCurrent, Text: "The API server does not know you any more.", Hint: "Log in again with kubectl; the console continues by itself."}
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
		return &problem{Short: notCurrent, Text: "The cluster does not know Postbacks.", Hint: "Is the operator installed, and is this the right context? kubectl postback doctor shows details."}
	}
	return &problem{Lost: true, Short: apiServerAway, Text: "The API server does not answer.", Hint: "This page shows earlier data. The console continues by itself when the API server is back."}
}

// unreadLog returns the reason why the page lacks the entries of the delivery log, or nil if it shows them.
func (c *Console) unreadLog(err error) *problem {
	const text = "Some deliveries that only the delivery log has are missing here."
	switch {
	case c.unread != "":
		return &problem{Lost: true, Short: logIncomplete, Text: text, Hint: "The delivery log cannot be read: " + c.unread}
	case err != nil:
		return &problem{Lost: true, Short: logIncomplete, Text: text, Hint: "The delivery log cannot be read now: " + err.Error()}
	}
	return nil
}

// explain returns the text of an error of the API server or the delivery log, for users.
func explain(err error) string {
	if unread, ok := errors.AsType[*deliveries.UnreadError](err); ok {
		return "The delivery log cannot be read now: " + unread.Err.Error()
	}
	if refused, ok := errors.AsType[refusal](err); ok {
		return string(refused)
	}
	if problem, ok := errors.AsType[*deliveries.ProblemError](err); ok {
		return problem.Error()
	}
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return status.Status().Message
	}
	return "The API server does not answer: " + err.Error()
}
