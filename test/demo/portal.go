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

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/util/cert"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	loopback    = "127.0.0.1"
	sessionKeys = "keys"
	keySize     = 32
)

// openPortal installs and starts the portal, and creates the partner's ServiceAccounts for links.
func (d *demo) openPortal(ctx context.Context) error {
	d.out.step("The portal, for partners who have a browser and no kubeconfig")
	port, err := controlplane.FreePort()
	if err != nil {
		return err
	}
	address := net.JoinHostPort(loopback, strconv.Itoa(port))
	if err := d.installPortal(ctx, "https://"+address); err != nil {
		return err
	}
	program, err := d.program(ctx, "portal")
	if err != nil {
		return err
	}
	if d.pages, err = d.op.StartPortal(ctx, "postback-portal-demo", operator.WithProgram(program), operator.WithAddress(address)); err != nil {
		return err
	}
	d.supervised.Go(func() { supervise(ctx, d.out, d.pages.Name, d.pages, restartPause) })
	return d.admitPartner(ctx)
}

// installPortal applies config/portal with a session key and a self-signed certificate.
func (d *demo) installPortal(ctx context.Context, url string) error {
	certificate, key, err := cert.GenerateSelfSignedCertKey(loopback, []net.IP{net.ParseIP(loopback)}, nil)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	secret := make([]byte, keySize)
	_, _ = rand.Read(secret) // Read never returns an error.
	files := map[string][]byte{d.portalCA(): certificate, d.portalFile("portal-tls.key"): key, d.portalFile(sessionKeys): []byte(base64.StdEncoding.EncodeToString(secret))}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("write a file of the portal: %w", err)
		}
	}
	applied, err := d.runKubectl(ctx, "apply", "-k", "config/portal")
	if err != nil {
		return err
	}
	d.out.command("kubectl apply -k config/portal")
	d.out.output(summary(applied))
	for _, args := range [][]string{
		{"create", "configmap", "postback-portal", "--from-literal=url=" + url},
		{"create", "secret", "tls", "postback-portal-tls", "--cert=" + d.portalCA(), "--key=" + d.portalFile("portal-tls.key")},
		{"create", "secret", "generic", "postback-portal-session", "--from-file=" + d.portalFile(sessionKeys)},
	} {
		if err := d.kubectl(ctx, append([]string{"-n", operator.PortalNamespace}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) portalFile(name string) string { return filepath.Join(d.op.Dir, name) }

// portalCA returns the file of the portal's self-signed certificate.
func (d *demo) portalCA() string { return d.portalFile("portal-ca.crt") }

// admitPartner creates the ServiceAccounts of the partner's roles. The shop that posts events may request links.
func (d *demo) admitPartner(ctx context.Context) error {
	d.out.say("Links act as a ServiceAccount of the partner. The editor of this one also sees signing keys.")
	for _, args := range [][]string{
		{"apply", "-f", "config/samples/portal_partner.yaml"},
		{"create", "rolebinding", "editor-sees-keys", "--clusterrole=postback-portal-key-reader", "--serviceaccount=" + namespace + ":postback-portal-editor"},
		{"create", "rolebinding", "shop-links", "--clusterrole=postback-portal-link-requester", "--serviceaccount=" + namespace + ":" + sender},
	} {
		if err := d.kubectl(ctx, append([]string{"-n", namespace}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// linkArgs returns the arguments of the plugin that request a link.
func (d *demo) linkArgs(role string) []string {
	return []string{"-n", namespace, "link", "--role", role, "--service-account", sender, "--portal-url", d.pages.IngestURL(), "--ca-file", d.portalCA()}
}

// showLinks prints a link for the partner and one for a viewer. It runs last, because each link works for only five
// minutes.
func (d *demo) showLinks(ctx context.Context) {
	d.out.say("The portal, in a browser. It warns of the certificate, which the demo made itself.")
	var links [][]string
	for _, who := range []struct{ role, title string }{{"editor", "As the partner"}, {"viewer", "As a viewer"}} {
		link, err := d.link(ctx, who.role)
		if err != nil {
			link = "no link: " + err.Error()
		}
		links = append(links, []string{who.title, link})
	}
	d.out.table(links)
	d.out.say("Each link works once, within five minutes. For another one:")
	d.out.command("kubectl postback " + quoteAll(d.linkArgs("editor")))
	d.out.say("A Postback that the partner adds may have the endpoint above as its URL: %s", d.endpoint.URL(hookPath))
	d.out.say("")
}

// link requests a link by the kubectl plugin, as an operator does.
func (d *demo) link(ctx context.Context, role string) (string, error) {
	plugin, err := d.program(ctx, "kubectl-postback")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, plugin, append([]string{"--kubeconfig", d.cp.Kubeconfig}, d.linkArgs(role)...)...)
	var problem strings.Builder
	command.Stderr = &problem
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSpace(string(output)), nil
}
