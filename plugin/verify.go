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

package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/verify"
)

// secretVariable is the environment variable that holds a secret for verify and listen.
const secretVariable = "POSTBACK_SECRET"

type verifyOptions struct {
	*env
	secretFlags
	body, headersFile string
	headers           []string
	tolerance         time.Duration
}

// secretFlags are the flags that select the secret of verify and listen.
type secretFlags struct{ postback, secretFile string }

func (f *secretFlags) add(cmd *cobra.Command, e *env) {
	cmd.Flags().StringVar(&f.postback, "postback", "", "Use the secret of this Postback from the cluster.")
	cmd.Flags().StringVar(&f.secretFile, "secret-file", "", "File with the secret; - is the standard input. The default is the environment variable "+secretVariable+".")
	_ = cmd.RegisterFlagCompletionFunc("postback", e.completePostbacks)
}

// maxSecretFile bounds a file with a secret, in bytes.
const maxSecretFile = 4 << 10

// read reads the secret. It does not trim a secret from the environment, so that verify can report its faults.
func (f *secretFlags) read(ctx context.Context, e *env) (string, error) {
	switch {
	case f.postback != "" && f.secretFile != "":
		return "", errors.New("name either --postback or --secret-file")
	case f.secretFile != "":
		data, err := e.readFile(f.secretFile, maxSecretFile)
		// Editors end a file with one line break.
		return strings.TrimSuffix(string(data), "\n"), err
	case f.postback == "":
		secret := os.Getenv(secretVariable)
		if secret == "" {
			return "", errors.New("the secret is missing: name --postback or --secret-file, or set " + secretVariable)
		}
		return secret, nil
	}
	s, err := e.scope()
	if err != nil {
		return "", err
	}
	_, secret, err := s.signing(ctx, f.postback)
	if err != nil {
		return "", err
	}
	core, err := s.keys(ctx, secret)
	if err != nil {
		return "", err
	}
	return string(core.Data[v1alpha1.SigningKeyName]), nil
}

func (e *env) verifyCommand() *cobra.Command {
	o := &verifyOptions{env: e}
	cmd := &cobra.Command{
		Use:   "verify --body FILE (--headers FILE | -H 'Name: value'...)",
		Short: "Check a received request against a secret, offline, and say what is wrong",
		Long: "Check the headers and the body of a request that was received against a secret, by both signature schemes, and say which part is wrong: " +
			"the key, its prefix or encoding, the body, the timestamp. The cluster is not used, unless --postback names the secret.\n\n" +
			"The exit code is 0 if every signature of the request is valid, and 1 if not.",
		Example: "  kubectl postback verify --postback crm --body body.json --headers headers.txt\n" +
			"  POSTBACK_SECRET=whsec_... kubectl postback verify --body body.json -H 'Dub-Signature: 5f1c...'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.secretFlags.add(cmd, e)
	f := cmd.Flags()
	f.StringVar(&o.body, "body", "", "File with the raw body, byte for byte; - is the standard input.")
	f.StringVar(&o.headersFile, "headers", "", "File with the headers, one in each line.")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "A header, 'Name: value'. May be repeated.")
	f.DurationVar(&o.tolerance, "tolerance", verify.Tolerance, "Largest difference of the timestamp from now; 0 skips this check, for an older request.")
	return cmd
}

// maxBodyFile bounds the file with a body, in bytes. The dispatcher sends at most 1 MiB.
const maxBodyFile = 2 << 20

func (o *verifyOptions) run(cmd *cobra.Command) error {
	switch {
	case o.body == "":
		return usagef(cmd, "--body is missing: name the file with the raw body")
	case o.headersFile == "" && len(o.headers) == 0:
		return usagef(cmd, "the headers are missing: name --headers or -H")
	case o.tolerance < 0:
		return usagef(cmd, "--tolerance must not be negative")
	}
	secret, err := o.read(cmd.Context(), o.env)
	if err != nil {
		return err
	}
	r := verify.Request{}
	if r.Body, err = o.readFile(o.body, maxBodyFile); err != nil {
		return err
	}
	if r.Header, err = o.header(); err != nil {
		return err
	}
	results, err := verify.Check(r, secret, o.clock.Now(), o.tolerance)
	if err != nil {
		return err
	}
	if !printResults(o.Out, results) {
		return errReported
	}
	return nil
}

// header parses headers in the form of HTTP or curl -i. It skips a status line before them.
func (o *verifyOptions) header() (http.Header, error) {
	text := strings.Join(o.headers, "\n")
	if o.headersFile != "" {
		data, err := o.readFile(o.headersFile, maxBodyFile)
		if err != nil {
			return nil, err
		}
		text += "\n" + string(data)
	}
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "> "))
		if name, _, ok := strings.Cut(line, ":"); ok && !strings.ContainsAny(name, " \t") {
			lines = append(lines, line)
		}
	}
	header, err := textproto.NewReader(bufio.NewReader(strings.NewReader(strings.Join(lines, "\r\n") + "\r\n\r\n"))).ReadMIMEHeader()
	if err != nil || len(header) == 0 {
		return nil, errors.New("there are no headers: write one in each line, as Name: value")
	}
	return http.Header(header), nil
}

// printResults prints the result of each scheme. It returns true if there is a signature and all are valid.
func printResults(out io.Writer, results []verify.Result) bool {
	valid, invalid := 0, 0
	coloured := printers.AllowsColorOutput(out)
	for _, r := range results {
		verdict := cell{"not there", faint}
		switch {
		case r.Valid:
			verdict = cell{"valid", green}
			valid++
		case r.Present:
			verdict = cell{"NOT VALID", red}
			invalid++
		}
		text := verdict.text
		if coloured {
			text = verdict.colour.of(text)
		}
		say(out, "%-17s %s", r.Scheme, text)
		if r.Reason != "" {
			say(out, "  %s", visible(r.Reason))
			say(out, "  -> %s", visible(r.Remedy))
		}
	}
	return valid > 0 && invalid == 0
}

// summary returns the result of each scheme in one line.
func summary(results []verify.Result) string {
	var parts []string
	for _, r := range results {
		switch {
		case r.Valid:
			parts = append(parts, r.Scheme+" valid")
		case r.Present:
			parts = append(parts, fmt.Sprintf("%s NOT VALID: %s", r.Scheme, r.Reason))
		}
	}
	if len(parts) == 0 {
		return "not signed"
	}
	return strings.Join(parts, ", ")
}
