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

// Package look reads the look that a platform gives to the pages of its portal: name, logo, colours and a link back.
package look

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxName     = 40
	maxLinkText = 60
	maxLink     = 500
	maxColour   = 40
	// MaxLogo bounds a logo in bytes. maxPixels bounds its sides, because a small PNG may fill the memory of a browser.
	MaxLogo   = 128 << 10
	maxPixels = 1024
)

// Logo is a picture.
type Logo struct {
	Type    string
	Content []byte
}

// Look is the look of the pages.
type Look struct {
	// Name stands in the corner of each page.
	Name string
	// Link is the address of the platform, or "". LinkText is its text, or "" for one in the language of the page.
	Link, LinkText string
	// Logo replaces the mark, unless it is nil. DarkLogo replaces it in the dark scheme.
	Logo, DarkLogo *Logo
	// Style are the rules of CSS with the colours, or "".
	Style string
	// Version changes with the content.
	Version string
}

// Default is the look without settings.
var Default = &Look{Name: "Postback"}

// known are the names of the files that a look may have, with their largest size in bytes.
var known = settings()

func settings() map[string]int64 {
	all := map[string]int64{
		"name": maxName * utf8.UTFMax, "link": maxLink, "link-text": maxLinkText * utf8.UTFMax,
		"logo.svg": MaxLogo, "logo.png": MaxLogo, "logo-dark.svg": MaxLogo, "logo-dark.png": MaxLogo,
	}
	for _, s := range []scheme{light, dark} {
		for field := range fields {
			all[s.name+"."+field] = maxColour
		}
	}
	return all
}

// Read reads a look from the files of a ConfigMap. Each error names the file and the remedy.
func Read(dir fs.FS) (*Look, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("read the look: %w", err)
	}
	files := map[string][]byte{}
	var errs []error
	for _, entry := range entries {
		// The kubelet keeps the content of a ConfigMap in folders that begin with two points.
		if strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		content, err := readFile(dir, entry.Name())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files[entry.Name()] = content
	}
	l, more := parse(files)
	if errs = append(errs, more...); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return l, nil
}

// readFile reads a file within its bound.
func readFile(dir fs.FS, name string) ([]byte, error) {
	most, ok := known[name]
	if !ok {
		return nil, fmt.Errorf("%s: no such setting; the settings are %s", name, strings.Join(names(), ", "))
	}
	file, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case int64(len(content)) > most:
		return nil, fmt.Errorf("%s: it has more than %d bytes; make it smaller", name, most)
	}
	return content, nil
}

func names() []string { return slices.Sorted(maps.Keys(known)) }

// parse returns the look of files by their names, and the errors of all of them.
func parse(files map[string][]byte) (*Look, []error) {
	l := &Look{}
	*l = *Default
	var errs []error
	keep := func(name string, set func(content []byte) error) {
		content, ok := files[name]
		if !ok {
			return
		}
		if err := set(content); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	keep("name", func(c []byte) (err error) { l.Name, err = words(c, maxName); return err })
	keep("link-text", func(c []byte) (err error) { l.LinkText, err = words(c, maxLinkText); return err })
	keep("link", func(c []byte) (err error) { l.Link, err = link(c); return err })
	for name, logo := range map[string]**Logo{"logo": &l.Logo, "logo-dark": &l.DarkLogo} {
		keep(name+".svg", func(c []byte) error { *logo = &Logo{"image/svg+xml", c}; return checkSVG(c) })
		keep(name+".png", func(c []byte) error {
			if *logo != nil {
				return fmt.Errorf("there is %s.svg, too; keep one of them", name)
			}
			*logo = &Logo{"image/png", c}
			return checkPNG(c)
		})
	}
	if l.DarkLogo != nil && l.Logo == nil {
		errs = append(errs, errors.New("logo-dark: it needs a logo for the light scheme, too; add logo.svg or logo.png"))
	}
	style, more := colours(files)
	if errs = append(errs, more...); len(errs) > 0 {
		return nil, errs
	}
	l.Style, l.Version = style, digest(files)
	return l, nil
}

func digest(files map[string][]byte) string {
	if len(files) == 0 {
		return ""
	}
	h := sha256.New()
	for _, name := range names() {
		fmt.Fprintf(h, "%s %d\n%s", name, len(files[name]), files[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// words returns a text of one line.
func words(content []byte, most int) (string, error) {
	line := strings.TrimSpace(string(content))
	switch n := utf8.RuneCountInString(line); {
	case !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", errors.New("it has characters that cannot be shown; use one line of text")
	case n == 0 || n > most:
		return "", fmt.Errorf("it has %d characters; use 1 to %d", n, most)
	}
	return line, nil
}

// link returns an address that pages may lead to.
func link(content []byte) (string, error) {
	line := strings.TrimSpace(string(content))
	u, err := url.Parse(line)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("%q is no address of a page; use https:// and a host, such as https://example.com/partners", line)
	}
	return u.String(), nil
}

// checkSVG returns an error unless the content is an SVG. Pages show it as an image, in which browsers run no script.
func checkSVG(content []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(content))
	root := ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && root != "" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no SVG: %w", err)
		}
		if start, ok := token.(xml.StartElement); ok && root == "" {
			if root = start.Name.Local; root != "svg" {
				return fmt.Errorf("it is no SVG: the first element is %q", root)
			}
		}
	}
}

func checkPNG(content []byte) error {
	size, err := png.DecodeConfig(bytes.NewReader(content))
	switch {
	case err != nil:
		return fmt.Errorf("it is no PNG: %w", err)
	case size.Width > maxPixels || size.Height > maxPixels:
		return fmt.Errorf("it has %d times %d pixels; use at most %d on each side", size.Width, size.Height, maxPixels)
	}
	return nil
}

// colours returns the rules of CSS with the colours of both schemes.
func colours(files map[string][]byte) (style string, errs []error) {
	var b strings.Builder
	chosen := map[string]palette{}
	for _, s := range []scheme{light, dark} {
		chosen[s.name] = palette{}
		for field, property := range fields {
			content, ok := files[s.name+"."+field]
			if !ok {
				continue
			}
			c, err := parseColour(string(content))
			if err != nil {
				errs = append(errs, fmt.Errorf("%s.%s: %w", s.name, field, err))
				continue
			}
			chosen[s.name][property] = c
		}
	}
	if len(errs) > 0 {
		return "", errs
	}
	follow(chosen[light.name], chosen[dark.name], dark)
	follow(chosen[dark.name], chosen[light.name], light)
	for _, s := range []scheme{light, dark} {
		p, more := s.complete(chosen[s.name])
		errs = append(errs, more...)
		if rules := s.css(p); rules != "" {
			not := ""
			if s.name == light.name {
				// Without "not", the rules would hold in the dark scheme, too.
				not = "not "
			}
			b.WriteString("@media " + not + "(prefers-color-scheme: dark) { :root {" + rules + " } }\n")
		}
	}
	return b.String(), errs
}

// follow sets the accent of a scheme by that of the other one if the platform chose only that.
func follow(from, to palette, s scheme) {
	c, ok := from[accent]
	if _, chosen := to[accent]; !ok || chosen {
		return
	}
	p := maps.Clone(s.defaults)
	if maps.Copy(p, to); len(to) > 0 {
		s.completeGrounds(p)
	}
	grounds := p.grounds()
	to[accent] = away(c, s.opposite, func(c colour) bool { return readable(c, grounds...) })
}
