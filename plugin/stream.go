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
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// crowdedPercent is the used part of the waiting stream that causes a warning. One Postback alone may take 80 %.
	crowdedPercent = 75
	// namedHolders bounds the Postbacks that the warning names.
	namedHolders = 3
)

// checkStream warns about a crowded waiting stream, and names the Postbacks that take most of it.
func checkStream(r *report, postbacks []v1alpha1.Postback) {
	used, largest := streamUse(postbacks)
	switch {
	case len(largest) == 0:
	case used >= crowdedPercent:
		r.add(finding{
			warning, fmt.Sprintf("The stream of waiting deliveries is full to about %d%%; most of it belongs to %s", used, strings.Join(largest, ", ")),
			"Events of these Postbacks are refused with StreamFull when the stream has no room for them: mend their endpoints, or drop deliveries. docs/runbooks/PostbackNATSWaitingFilling.md",
		})
	default:
		r.good("The stream of waiting deliveries is full to about %d%%", used)
	}
}

// streamUse returns the used part of the waiting stream in percent, and the Postbacks that take most of it. It is an
// estimate: Postbacks below half a percent, or that the caller may not list, are missing.
func streamUse(postbacks []v1alpha1.Postback) (used int32, largest []string) {
	var holders []*v1alpha1.Postback
	for i := range postbacks {
		if share := share(&postbacks[i]); share > 0 {
			used += share
			holders = append(holders, &postbacks[i])
		}
	}
	slices.SortStableFunc(holders, func(a, b *v1alpha1.Postback) int { return cmp.Compare(share(b), share(a)) })
	for _, p := range holders[:min(len(holders), namedHolders)] {
		largest = append(largest, fmt.Sprintf("%s/%s (%d%%)", p.Namespace, p.Name, share(p)))
	}
	return used, largest
}

func share(p *v1alpha1.Postback) int32 {
	if p.Status.Backlog == nil || p.Status.Backlog.SharePercent == nil {
		return 0
	}
	return *p.Status.Backlog.SharePercent
}
