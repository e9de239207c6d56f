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
	"slices"
	"testing"

	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestUseOfTheWaitingStream(t *testing.T) {
	holding := func(name string, percent *int32) v1alpha1.Postback {
		p := v1alpha1.Postback{}
		p.Namespace, p.Name, p.Status.Backlog = "acme", name, &v1alpha1.Backlog{Deliveries: 7, SharePercent: percent}
		return p
	}
	tests := map[string]struct {
		postbacks []v1alpha1.Postback
		used      int32
		largest   []string
	}{
		"no backlog":      {postbacks: []v1alpha1.Postback{{}}},
		"a small backlog": {postbacks: []v1alpha1.Postback{holding("crm", nil)}},
		"several": {
			postbacks: []v1alpha1.Postback{holding("a", ptr.To[int32](2)), holding("crm", ptr.To[int32](60)), holding("erp", ptr.To[int32](15)), holding("b", ptr.To[int32](1))},
			used:      78, largest: []string{"acme/crm (60%)", "acme/erp (15%)", "acme/a (2%)"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			used, largest := streamUse(test.postbacks)
			if used != test.used || !slices.Equal(largest, test.largest) {
				t.Errorf("%d %v, want %d %v", used, largest, test.used, test.largest)
			}
		})
	}
}
