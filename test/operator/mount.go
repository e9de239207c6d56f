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
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
)

// mountDir returns the folder on this machine that replaces a folder of the container.
func (p *Process) mountDir(path string) string {
	return filepath.Join(p.operator.Dir, p.Name+".mounts", path)
}

// mount writes the container's mounted Secrets to files, as a kubelet does, and waits for missing ones. An optional
// ConfigMap is an empty folder, as without the ConfigMap. Other kinds of volumes are refused.
func (p *Process) mount(ctx context.Context) error {
	volumes := map[string]*corev1.SecretVolumeSource{}
	for i := range p.template.Spec.Volumes {
		volume := &p.template.Spec.Volumes[i]
		optional := volume.ConfigMap != nil && ptr.Deref(volume.ConfigMap.Optional, false)
		if volume.Secret == nil && !optional {
			return fmt.Errorf("volume %s is something else than a Secret or an optional ConfigMap", volume.Name)
		}
		volumes[volume.Name] = volume.Secret
	}
	for _, m := range p.template.Spec.Containers[0].VolumeMounts {
		if volumes[m.Name] == nil {
			if err := os.MkdirAll(p.mountDir(m.MountPath), 0o700); err != nil {
				return fmt.Errorf("make the folder of volume %s: %w", m.Name, err)
			}
			continue
		}
		secret, err := p.waitSecret(ctx, volumes[m.Name].SecretName)
		if err != nil {
			return fmt.Errorf("mount volume %s: %w", m.Name, err)
		}
		if err := writeSecret(secret, p.mountDir(m.MountPath)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Process) waitSecret(ctx context.Context, name string) (*corev1.Secret, error) {
	var secret *corev1.Secret
	err := wait.PollUntilContextTimeout(ctx, pollInterval, startTimeout, true, func(ctx context.Context) (bool, error) {
		var err error
		secret, err = p.operator.clients.CoreV1().Secrets(p.namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for Secret %s: %w", name, err)
	}
	return secret, nil
}

func writeSecret(secret *corev1.Secret, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of Secret %s: %w", secret.Name, err)
	}
	for name, value := range secret.Data {
		if err := os.WriteFile(filepath.Join(dir, name), value, 0o600); err != nil {
			return fmt.Errorf("write Secret %s: %w", secret.Name, err)
		}
	}
	return nil
}

// mounted returns an argument in which folders of this machine replace those of the container.
func (p *Process) mounted(argument string) string {
	for _, m := range p.template.Spec.Containers[0].VolumeMounts {
		argument = strings.ReplaceAll(argument, m.MountPath+"/", p.mountDir(m.MountPath)+"/")
		if before, ends := strings.CutSuffix(argument, "="+m.MountPath); ends {
			argument = before + "=" + p.mountDir(m.MountPath)
		}
	}
	return argument
}
