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

package dispatcher

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// unfinished returns the cached deliveries of a Postback. It is called with the first work for it, when the cache is
// there.
func (r *replica) unfinished(postback types.UID) []*v1alpha1.PostbackDelivery {
	deliveries, err := r.wake.Unfinished(context.Background(), postback)
	if err != nil {
		r.options.Log.Error(err, "Cannot list the deliveries of an endpoint", "uid", postback)
	}
	return deliveries
}
