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
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// filterPatience is how long the plugin waits for the manager to validate a filter.
const filterPatience = 5 * time.Second

// checkFilter waits until the manager has validated a stored filter; what is the filter's origin, for messages. The
// plugin does not compile filters itself, because CEL would make it a tenth larger.
func (e *env) checkFilter(ctx context.Context, s *scope, p *v1alpha1.Postback, what string) error {
	ctx, cancel := context.WithTimeout(ctx, filterPatience)
	defer cancel()
	var mistake string
	err := e.await(ctx, s, p, &v1alpha1.PostbackList{}, func(object client.Object) (bool, error) {
		seen, ok := object.(*v1alpha1.Postback)
		if !ok || seen.Status.ObservedGeneration < p.Generation {
			return false, nil
		}
		c := meta.FindStatusCondition(seen.Status.Conditions, v1alpha1.StalledCondition)
		if c != nil && c.Reason == v1alpha1.InvalidFilterReason {
			mistake = c.Message
		}
		return true, nil
	})
	switch {
	case mistake != "":
		return fmt.Errorf("%s: %s\npostback %q is stored, but this filter is not in use: \"kubectl postback set filter %s EXPRESSION\" replaces it", what, mistake, p.Name, p.Name)
	case errors.Is(err, context.DeadlineExceeded):
		say(e.ErrOut, "The filter is not confirmed yet: the manager has not checked it within %s. Run \"kubectl postback describe %s\" later.", filterPatience, p.Name)
	case err != nil:
		say(e.ErrOut, "The filter is not confirmed: %s", explain(err))
	}
	return nil
}
