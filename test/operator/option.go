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

package operator

import clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

// Option changes the start of a process.
type Option func(*Process)

// WithArgs adds arguments after those of the Deployment.
func WithArgs(args ...string) Option {
	return func(p *Process) { p.args = append(p.args, args...) }
}

// WithEnv adds variables, each NAME=value, to those of the Deployment.
func WithEnv(variables ...string) Option {
	return func(p *Process) { p.env = append(p.env, variables...) }
}

// WithAPIServer connects the process to another address than the control plane's, which has another certificate.
func WithAPIServer(host string, ca []byte) Option {
	return func(p *Process) {
		p.apiServer = &clientcmdapi.Cluster{Server: host, CertificateAuthorityData: ca}
	}
}

// WithTLS makes ingest of a dispatcher serve TLS as in a cluster, with the certificate of the mounted Secret, for
// which the start waits. By default ingest serves plain HTTP on loopback.
func WithTLS() Option {
	return func(p *Process) { p.tls = true }
}

// WithAddress makes the process listen on a host:port that is known before its start.
func WithAddress(address string) Option {
	return func(p *Process) { p.ingest, p.placed = address, true }
}

// WithProgram runs another program than that of Options.Programs.
func WithProgram(path string) Option {
	return func(p *Process) { p.path = path }
}

// WithoutReady makes the start return before the process is ready.
func WithoutReady() Option {
	return func(p *Process) { p.unready = true }
}
