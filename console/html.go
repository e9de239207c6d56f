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
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/console/chart"
	"github.com/postback-dev/postback-operator/console/look"
	"github.com/postback-dev/postback-operator/console/text"
	"github.com/postback-dev/postback-operator/internal/endpoint"
)

//go:embed web
var web embed.FS

// static serves the files of web/static. It does not list directories.
func static() http.Handler {
	files, err := fs.Sub(web, "web/static")
	if err != nil {
		return http.NotFoundHandler()
	}
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			refuse(w, http.StatusNotFound, noPage)
			return
		}
		server.ServeHTTP(w, r)
	})
}

// source is parsed and never executed, because templates that were executed cannot be cloned.
var source = template.Must(template.New("").Funcs(template.FuncMap{
	"visible":  text.Visible,
	"plain":    text.Plain,
	"duration": chart.Duration,
	"span":     chart.Span,
	"ago":      func(t time.Time) template.HTML { return moment(t, "ago", "") },
	"until":    func(t time.Time) template.HTML { return moment(t, "until", "") },
	"when":     func(t time.Time) template.HTML { return moment(t, "when", t.Local().Format("Jan 2, 15:04:05")) },
	"number":   number,
	"lower":    strings.ToLower,
	"masked":   endpoint.Masked,
	"args":     func(args ...any) []any { return args },
	"look":     func() *look.Look { return look.Default },
	"frames":   func() string { return "" },
}).ParseFS(web, "web/templates/*.html"))

// templates are those of pages without a presentation.
var templates = template.Must(source.Clone())

// moment returns a time as an element that the page updates: the time since then or until then.
func moment(t time.Time, kind, said string) template.HTML {
	if t.IsZero() {
		return `<span class="faint">–</span>`
	}
	if said == "" {
		said = t.Local().Format("15:04:05")
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" data-%s title="%s">%s</time>`, //nolint:gosec // It is made of a time.
		t.UTC().Format(time.RFC3339Nano), kind, t.Local().Format("Mon, 2 Jan 2006 15:04:05.000 MST")+" · "+t.UTC().Format("15:04:05 UTC"), said))
}

// number formats a number with commas between thousands.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// render executes a template for a part of a page, which is the same in each presentation.
func render(name string, data any) (template.HTML, error) { return execute(templates, name, data) }

func execute(from *template.Template, name string, data any) (template.HTML, error) {
	var b bytes.Buffer
	if err := from.ExecuteTemplate(&b, name, data); err != nil {
		return "", fmt.Errorf("show %s: %w", name, err)
	}
	return template.HTML(b.String()), nil //nolint:gosec // The template escaped it.
}

// write renders a template and sends it. It sends nothing before the template is complete.
func write(w http.ResponseWriter, status int, name string, data any) {
	content, err := execute(presentationOf(w), name, data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(content))
}

// refuse sends a page with the reason why a request is refused.
func refuse(w http.ResponseWriter, status int, why string) {
	write(w, status, "refused", why)
}
