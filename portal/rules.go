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

package portal

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

// rulesName is the name of the ConfigMap with the rules of the platform.
const rulesName = "postback-rules"

// rules returns the rules of the platform for the form of a namespace. The portal reads them with its own identity,
// because they name other partners. If the read fails, the form explains no rules; the API server still applies
// them.
func (v *visits) rules(ctx context.Context, namespace string) console.Rules {
	all, err := v.platform.Get(ctx, "", func(ctx context.Context) (map[string]string, time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		stored, err := v.api.CoreV1().ConfigMaps(v.installation).Get(ctx, rulesName, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, 0, err
		}
		return stored.Data, rbacreview.AllowedFor, nil
	})
	if err != nil {
		return console.Rules{}
	}
	return console.RulesOf(all, namespace)
}
