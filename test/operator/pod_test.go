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
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func ofConfigMap(name, key string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key}}
}

func TestContainerAsAKubeletWouldRunIt(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "postback-system", Name: "dispatcher-0", UID: "u1"}}
	container := &corev1.Container{
		Command:      []string{"/dispatcher", "--first"},
		Args:         []string{"--namespace=$(POD_NAMESPACE)", "--unknown=$(NOT_THERE)", "--cert=/etc/tls/tls.crt", "--other=/etc/tls2"},
		VolumeMounts: []corev1.VolumeMount{{Name: "tls", MountPath: "/etc/tls"}},
		Env: []corev1.EnvVar{
			field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"), field("POD_UID", "metadata.uid"),
			{Name: "BOTH", Value: "$(POD_NAMESPACE)/$(POD_NAME)"},
			{Name: "URL", ValueFrom: ofConfigMap("portal", "url")},
		},
	}
	values, err := environment(container, pod, map[string]map[string]string{"portal": {"url": "https://portal.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"POD_NAME": "dispatcher-0", "POD_NAMESPACE": "postback-system", "POD_UID": "u1", "BOTH": "postback-system/dispatcher-0",
		"URL": "https://portal.example.com",
	}
	if !maps.Equal(values, want) {
		t.Errorf("the environment is %v, want %v", values, want)
	}

	p := &Process{
		Name: "dispatcher-0", operator: &Operator{Dir: "/run"}, template: &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{*container}}},
		ingests: true, ingest: "127.0.0.1:1", metrics: "127.0.0.1:2", probes: "127.0.0.1:3",
	}
	WithArgs("--last")(p)
	wantArgs := []string{
		"--first", "--namespace=postback-system", "--unknown=$(NOT_THERE)", "--cert=/run/dispatcher-0.mounts/etc/tls/tls.crt", "--other=/etc/tls2",
		"--metrics-bind-address=127.0.0.1:2", "--health-probe-bind-address=127.0.0.1:3", "--ingest-bind-address=127.0.0.1:1",
		"--allow-cidr=127.0.0.0/8,::1/128", "--ingest-tls-cert-file=", "--ingest-tls-private-key-file=", "--last",
	}
	if args := p.arguments(container, values); !slices.Equal(args, wantArgs) {
		t.Errorf("the arguments are %q, want %q", args, wantArgs)
	}
}

func TestEnvironmentThatIsNotKnown(t *testing.T) {
	for _, variable := range []corev1.EnvVar{
		field("NODE", "spec.nodeName"),
		{Name: "URL", ValueFrom: ofConfigMap("portal", "url")},
		{Name: "SECRET", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "key"}}},
	} {
		t.Run(variable.Name, func(t *testing.T) {
			if values, err := environment(&corev1.Container{Env: []corev1.EnvVar{variable}}, &corev1.Pod{}, nil); err == nil {
				t.Errorf("variable %s became %v", variable.Name, values)
			}
		})
	}
}
