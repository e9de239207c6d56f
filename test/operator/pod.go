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

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

// ensurePod returns the Pod of the process, created from the Deployment's template as its controllers would. So
// admission checks it, and the downward API has values.
func (p *Process) ensurePod(ctx context.Context) (*corev1.Pod, error) {
	pods := p.operator.clients.CoreV1().Pods(p.namespace)
	pod, err := pods.Get(ctx, p.Name, metav1.GetOptions{})
	if err == nil {
		return pod, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("get Pod %s: %w", p.Name, err)
	}
	pod, err = pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: p.template.Labels, Annotations: p.template.Annotations},
		Spec:       p.template.Spec,
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create Pod %s: %w", p.Name, err)
	}
	return pod, nil
}

// DeletePod deletes the Pod of the process, as when its node is gone. Terminate does it, too.
func (p *Process) DeletePod(ctx context.Context) error {
	err := p.operator.clients.CoreV1().Pods(p.namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Pod %s: %w", p.Name, err)
	}
	return nil
}

// settings returns the data of the ConfigMaps that the container's environment refers to, by their names.
func (p *Process) settings(ctx context.Context, container *corev1.Container) (map[string]map[string]string, error) {
	found := map[string]map[string]string{}
	for _, variable := range container.Env {
		if variable.ValueFrom == nil || variable.ValueFrom.ConfigMapKeyRef == nil {
			continue
		}
		settings, err := p.operator.clients.CoreV1().ConfigMaps(p.namespace).Get(ctx, variable.ValueFrom.ConfigMapKeyRef.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", variable.Name, err)
		}
		found[settings.Name] = settings.Data
	}
	return found, nil
}

// environment returns the container's environment as a kubelet would build it. settings has the data of ConfigMaps by
// their names.
func environment(container *corev1.Container, pod *corev1.Pod, settings map[string]map[string]string) (map[string]string, error) {
	fields := map[string]string{
		"metadata.name":           pod.Name,
		"metadata.namespace":      pod.Namespace,
		"metadata.uid":            string(pod.UID),
		"spec.serviceAccountName": pod.Spec.ServiceAccountName,
		"status.podIP":            loopback,
	}
	values := map[string]string{}
	for _, variable := range container.Env {
		source := variable.ValueFrom
		if source == nil {
			values[variable.Name] = expand(variable.Value, values)
			continue
		}
		if reference := source.ConfigMapKeyRef; reference != nil {
			value, ok := settings[reference.Name][reference.Key]
			if !ok {
				return nil, fmt.Errorf("environment variable %s: ConfigMap %s has no %s", variable.Name, reference.Name, reference.Key)
			}
			values[variable.Name] = value
			continue
		}
		if source.FieldRef == nil {
			return nil, fmt.Errorf("environment variable %s comes from something else than a field or a ConfigMap", variable.Name)
		}
		value, ok := fields[source.FieldRef.FieldPath]
		if !ok {
			return nil, fmt.Errorf("environment variable %s comes from the unknown field %s", variable.Name, source.FieldRef.FieldPath)
		}
		values[variable.Name] = value
	}
	return values, nil
}

// expand replaces each $(NAME) in an argument.
func expand(argument string, values map[string]string) string {
	for name, value := range values {
		argument = strings.ReplaceAll(argument, "$("+name+")", value)
	}
	return argument
}

// arguments returns the arguments of the Deployment, followed by those that this machine needs, which take
// precedence.
func (p *Process) arguments(container *corev1.Container, values map[string]string) []string {
	var args []string
	if len(container.Command) > 0 {
		args = append(args, container.Command[1:]...)
	}
	for _, argument := range container.Args {
		args = append(args, p.mounted(expand(argument, values)))
	}
	if p.portal {
		return append(append(args, "--bind-address="+p.ingest, "--health-probe-bind-address="+p.probes, "--metrics-bind-address="+p.metrics), p.args...)
	}
	args = append(args, "--metrics-bind-address="+p.metrics, "--health-probe-bind-address="+p.probes)
	if p.ingests {
		args = append(args, "--ingest-bind-address="+p.ingest, "--allow-cidr="+loopbackCIDRs)
	}
	if p.ingests && !p.tls {
		args = append(args, "--ingest-tls-cert-file=", "--ingest-tls-private-key-file=")
	}
	return slices.Concat(args, p.args, p.extra)
}

// kubeconfig writes a kubeconfig with a token of the ServiceAccount and returns its path.
func (p *Process) kubeconfig(ctx context.Context, serviceAccount string) (string, error) {
	config, err := p.operator.ControlPlane.ServiceAccountConfig(ctx, p.namespace, serviceAccount)
	if err != nil {
		return "", err
	}
	server := p.apiServer
	if server == nil {
		server = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	}
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["postback"] = server
	kubeconfig.AuthInfos["postback"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	kubeconfig.Contexts["postback"] = &clientcmdapi.Context{Cluster: "postback", AuthInfo: "postback"}
	kubeconfig.CurrentContext = "postback"
	path := filepath.Join(p.operator.Dir, p.Name+".kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, path); err != nil {
		return "", fmt.Errorf("write the kubeconfig of %s: %w", p.Name, err)
	}
	return path, nil
}
