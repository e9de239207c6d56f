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
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"
)

const (
	// ConfigFlag is the flag that names the configuration file. The file cannot contain it.
	ConfigFlag = "config"
	// configVersion is the apiVersion of configuration files.
	configVersion = "config.postback.dev/v1alpha1"
	maxConfig     = 1 << 20
)

// Env returns an environment variable, or fallback if it is not set or empty.
func Env(name, fallback string) string { return cmp.Or(os.Getenv(name), fallback) }

// Parse parses the command line, and sets flags that it lacks from the file of --config. The file is YAML or JSON,
// with apiVersion configVersion and a kind. Its fields are the flags in camel case: maxInFlight is --max-in-flight. A
// flag that may be repeated is a list. An unknown field is an error that names it.
func Parse(flags *flag.FlagSet, kind string, args []string) error {
	path := flags.String(ConfigFlag, "", "File with settings, of kind "+kind+": its fields are these flags in camel case, such as userAgent for --user-agent. A flag on the command line overrides its field.")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *path == "" {
		return nil
	}
	content, err := readConfig(*path)
	if err != nil {
		return fmt.Errorf("flag --%s: %w", ConfigFlag, err)
	}
	if err := apply(flags, kind, content); err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	return nil
}

func readConfig(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > maxConfig:
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxConfig)
	}
	return content, nil
}

func apply(flags *flag.FlagSet, kind string, content []byte) error {
	var settings map[string]any
	if len(bytes.TrimSpace(content)) == 0 {
		return errors.New("the file is empty")
	}
	if err := yaml.UnmarshalStrict(content, &settings); err != nil {
		return fmt.Errorf("it is no YAML: %w", err)
	}
	if settings["apiVersion"] != configVersion || settings["kind"] != kind {
		return fmt.Errorf("apiVersion and kind are %v and %v, and must be %s and %s", settings["apiVersion"], settings["kind"], configVersion, kind)
	}
	delete(settings, "apiVersion")
	delete(settings, "kind")
	typed, named := map[string]bool{}, map[string]*flag.Flag{}
	flags.Visit(func(f *flag.Flag) { typed[f.Name] = true })
	flags.VisitAll(func(f *flag.Flag) { named[Field(f.Name)] = f })
	delete(named, ConfigFlag)
	var errs []error
	// Sorted names keep the text of the error the same each time.
	for _, field := range slices.Sorted(maps.Keys(settings)) {
		f := named[field]
		switch {
		case f == nil:
			errs = append(errs, fmt.Errorf("field %s: there is no such setting", field))
		case !typed[f.Name]:
			errs = append(errs, set(flags, f, field, settings[field]))
		}
	}
	return errors.Join(errs...)
}

func set(flags *flag.FlagSet, f *flag.Flag, field string, value any) error {
	values, ok := value.([]any)
	if !ok {
		values = []any{value}
	}
	for _, value := range values {
		text, err := scalar(value)
		if err == nil {
			err = flags.Set(f.Name, text)
		}
		if err != nil {
			return fmt.Errorf("field %s: %w", field, err)
		}
	}
	return nil
}

// scalar returns a value in the form that a flag parses.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	}
	return "", errors.New("it must be a text, a number, true or false, or a list of them")
}

// Field returns the field of a flag in configuration files: its name in camel case.
func Field(name string) string {
	var b strings.Builder
	up := false
	for _, r := range name {
		switch {
		case r == '-':
			up = true
		case up:
			b.WriteRune(unicode.ToUpper(r))
			up = false
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
