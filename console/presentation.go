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
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"github.com/postback-dev/postback-operator/console/look"
)

// Presentation is the look of pages, and the sites that may embed them.
type Presentation struct {
	templates *template.Template
	look      *look.Look
}

// NewPresentation returns the presentation of a look. Pages of the origins may embed the pages in a frame.
func NewPresentation(l *look.Look, origins []string) (*Presentation, error) {
	own, err := source.Clone()
	if err != nil {
		return nil, fmt.Errorf("apply the look: %w", err)
	}
	frames := strings.Join(origins, " ")
	own.Funcs(template.FuncMap{"look": func() *look.Look { return l }, "frames": func() string { return frames }})
	return &Presentation{templates: own, look: l}, nil
}

// presented is a response with the presentation of its page.
type presented struct {
	http.ResponseWriter
	presentation *Presentation
}

// Unwrap serves http.ResponseController.
func (p *presented) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Present returns a response whose page has the presentation.
func Present(w http.ResponseWriter, p *Presentation) http.ResponseWriter { return &presented{w, p} }

// presentationOf returns the templates for the page of a response.
func presentationOf(w http.ResponseWriter) *template.Template {
	for {
		if p, ok := w.(*presented); ok {
			return p.presentation.templates
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return templates
		}
		w = inner.Unwrap()
	}
}

// LookPath is the path of the files of a look, which are the same for everybody.
const LookPath = "/look/"

// imagePolicy keeps an SVG that somebody opens by its address from running code.
const imagePolicy = "default-src 'none'; sandbox; frame-ancestors 'none'"

// ServeLook answers requests for the files of the look.
func (p *Presentation) ServeLook(w http.ResponseWriter, r *http.Request) {
	var kind string
	var content []byte
	image := func(logo *look.Logo) {
		if logo != nil {
			kind, content = logo.Type, logo.Content
			w.Header().Set("Content-Security-Policy", imagePolicy)
		}
	}
	switch strings.TrimPrefix(r.URL.Path, LookPath) {
	case "style.css":
		kind, content = "text/css; charset=utf-8", []byte(p.look.Style)
	case "logo":
		image(p.look.Logo)
	case "logo-dark":
		image(p.look.DarkLogo)
	}
	if len(content) == 0 {
		refuse(w, http.StatusNotFound, noPage)
		return
	}
	// The address of a page's look has its version. While replicas change theirs, the versions may differ.
	if r.URL.Query().Get("v") == p.look.Version {
		w.Header().Set("Cache-Control", "public, max-age=86400")
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(content)
}
