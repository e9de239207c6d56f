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

// Package console tests the web console in a real browser, with a real API server, manager and dispatcher.
package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/issuer"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	// patience bounds waits for events that usually take a moment, for busy machines.
	patience = time.Minute
	logLines = 60
	required = "required"
)

// All tests share this installation and browser.
var (
	cp      *controlplane.ControlPlane
	op      *operator.Operator
	api     client.Client
	browser context.Context
	// login is an issuer that the API server trusts.
	login *issuer.Issuer
)

func TestMain(m *testing.M) {
	path, err := findBrowser()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "The browser tests are skipped:", err)
		if os.Getenv("POSTBACK_BROWSER_TESTS") == required {
			os.Exit(1)
		}
		os.Exit(0)
	}
	stop, err := startBrowser(path)
	code := 1
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "start the browser:", err)
	} else {
		code = runTests(m)
	}
	stop()
	os.Exit(code)
}

// runTests runs the tests with an issuer that the API server trusts.
func runTests(m *testing.M) int {
	var err error
	if login, err = issuer.Start(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "start the issuer:", err)
		return 1
	}
	defer login.Close()
	return operator.RunTestsWith(m, controlplane.Options{Authentication: login.Authentication(clientID)}, start)
}

func start(ctx context.Context, installed *operator.Operator) error {
	op, cp = installed, installed.ControlPlane
	var err error
	if api, err = cp.Client(); err != nil {
		return err
	}
	if _, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http"), operator.WithRestarts()); err != nil {
		return err
	}
	_, err = op.StartDispatcher(ctx, "postback-dispatcher-0")
	return err
}

// findBrowser returns the path of a Chromium browser.
func findBrowser() (string, error) {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no Chromium was found: install chromium, or name one in $CHROMIUM")
}

// startBrowser starts a browser and returns a function that ends it.
func startBrowser(path string, more ...chromedp.ExecAllocatorOption) (stop func(), err error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.Flag("force-color-profile", "srgb"),
		// The portals of tests sign their own certificates, also in frames.
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-dev-shm-usage", true))
	if os.Geteuid() == 0 {
		// Chromium's sandbox does not work for root.
		options = append(options, chromedp.NoSandbox)
	}
	options = append(options, more...)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	var cancelTab context.CancelFunc
	browser, cancelTab = chromedp.NewContext(ctx)
	return func() { cancelTab(); cancel() }, chromedp.Do(browser)
}

// axeSource returns the script of axe-core, which checks accessibility, or "" if it is not installed.
func axeSource(t *testing.T) string {
	t.Helper()
	path := cmp.Or(os.Getenv("AXE_CORE"), "node_modules/axe-core/axe.min.js")
	source, err := os.ReadFile(path)
	switch {
	case err == nil:
		return string(source)
	case os.Getenv("POSTBACK_BROWSER_TESTS") == required:
		t.Fatal("axe-core is required: name axe.min.js in $AXE_CORE:", err)
	}
	t.Log("accessibility is not tested: name axe.min.js of axe-core in $AXE_CORE")
	return ""
}
