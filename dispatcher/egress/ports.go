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

package egress

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultPorts are those of web servers, and all ports that an unprivileged program can listen on. Lower ports serve
// other protocols (mail, DNS, files, remote shells), which a POST must not reach.
const DefaultPorts = "80,443,1024-65535"

// ports is a list of port ranges, each as its first and last port.
type ports [][2]uint16

// parsePorts parses a list such as "80,443,8000-8999".
func parsePorts(list string) (ports, error) {
	var all ports
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil || from == 0 {
			return nil, badPorts(part)
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil || to < from {
			return nil, badPorts(part)
		}
		all = append(all, [2]uint16{uint16(from), uint16(to)})
	}
	return all, nil
}

func badPorts(part string) error {
	return fmt.Errorf("--allow-ports: %q is neither a port from 1 to 65535 nor a range: write a list such as %s", part, DefaultPorts)
}

func (p ports) contain(port uint16) bool {
	for _, r := range p {
		if port >= r[0] && port <= r[1] {
			return true
		}
	}
	return false
}
