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

package retry

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
)

// Finished watches the finished deliveries, which the cache does not have.
type Finished interface {
	// Follow prunes finished deliveries until ctx ends. It calls reconcile for each one with a redeliver annotation
	// or without an owner, at first and after each change.
	Follow(ctx context.Context, reconcile func(types.NamespacedName))
}
