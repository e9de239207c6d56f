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
	"cmp"
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/postback-dev/postback-operator/console"
)

type consoleOptions struct {
	*logSource
	port          uint16
	openBrowser   bool
	allNamespaces bool
}

func (e *env) consoleCommand() *cobra.Command {
	o := &consoleOptions{}
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Serve the web console on this machine",
		Long: "Serve the web console on 127.0.0.1. It shows Postbacks and their events as they change, and offers the actions of " +
			"these commands. It works with your kubeconfig and rights, and talks to the API server, and to a dispatcher if the installation has a delivery log.\n\n" +
			"The printed link works once, for one browser. The console ends with Ctrl-C.",
		Example: "  kubectl postback console\n  kubectl postback console -n partner-acme --port 8080 --open",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	o.logSource = e.withLog(f)
	f.Uint16Var(&o.port, "port", 0, "Port of 127.0.0.1 to listen on. By default a free one is chosen.")
	f.BoolVar(&o.openBrowser, "open", false, "Open the link in your browser.")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "Show the Postbacks of all namespaces.")
	return cmd
}

func (o *consoleOptions) run(cmd *cobra.Command) error {
	config, err := o.restConfig()
	if err != nil {
		return err
	}
	options := console.ServerOptions{
		Options: console.Options{Config: config, Clock: o.clock}, Out: o.Out,
		Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(int(o.port))),
	}
	if !o.allNamespaces {
		if options.Namespace, err = o.namespace(); err != nil {
			return err
		}
	}
	raw, err := o.config.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	if options.Kubectl, err = o.kubectl(); err != nil {
		return err
	}
	// The scripts of events name this context, even if the user switches to another one later.
	options.Kubectl.Context = cmp.Or(options.Kubectl.Context, raw.CurrentContext)
	if err := o.addLog(cmd.Context(), &options.Options); err != nil {
		return err
	}
	defer o.close()
	if o.openBrowser {
		options.Open = func(url string) error { return openBrowser(cmd.Context(), url) }
	}
	return console.Serve(cmd.Context(), options)
}

// addLog sets the delivery log of the console, or the reason why it cannot be read.
func (o *consoleOptions) addLog(ctx context.Context, options *console.Options) error {
	api, err := o.env.client()
	if err != nil {
		return err
	}
	if o.logSource.client, err = o.find(ctx, api); err != nil {
		options.Unread = explain(err)
	}
	options.DeliveryLog = o.logSource.client
	return nil
}

// openBrowser opens a URL in the desktop's browser.
func openBrowser(ctx context.Context, url string) error {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	// The browser outlives the console.
	return exec.CommandContext(context.WithoutCancel(ctx), name, args...).Start()
}
