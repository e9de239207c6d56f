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

// Command node runs a command with a whole Kubernetes node: control plane, kubelet, kube-proxy, containerd, CNI
// plugins, CoreDNS and an agent that enforces NetworkPolicy. All run in separate namespaces, without Docker and
// without a network. Nothing of the node remains after the command, or after a SIGKILL of this program. It needs root
// and Linux.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const usage = `usage: node check
       node run -state FOLDER -controlplane FOLDER -programs FOLDER [-images FILE,...] COMMAND ARGUMENTS...

check says whether a node can run on this machine. run starts one, imports the images (OCI archives), runs the command
with KUBECONFIG set, and ends everything; its exit status is the command's.
`

// unable is the exit status of check and run on a machine that cannot run a node.
const unable = 77

// options are the flags. Each stage of the program gets the same ones.
type options struct {
	// state is the folder of data, keys and logs. The program empties it first.
	state string
	// controlPlane has the programs of hack/controlplane/build.sh, programs those of hack/node/build.sh.
	controlPlane, programs string
	images                 []string
	command                []string
	// group is the name of the control groups of all processes.
	group string
}

func main() {
	if len(os.Args) < 2 {
		fail(2, usage)
	}
	o, err := parse(os.Args[2:])
	if err != nil {
		fail(2, err.Error())
	}
	status, err := 0, error(nil)
	switch stage := os.Args[1]; stage {
	case "check":
		err = check()
	case "run":
		status, err = run(o)
	case stageInit:
		status, err = runInit(o)
	case stageUp:
		status, err = up(o)
	default:
		fail(2, usage)
	}
	var missing *missingError
	switch {
	case errors.As(err, &missing):
		fail(unable, err.Error())
	case err != nil:
		fail(1, err.Error())
	}
	os.Exit(status)
}

func fail(status int, message string) {
	fmt.Fprintln(os.Stderr, "node:", strings.TrimSpace(message))
	os.Exit(status)
}

func parse(args []string) (options, error) {
	var o options
	var images string
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	flags.StringVar(&o.state, "state", "", "Folder for data, keys and logs. It is emptied first.")
	flags.StringVar(&o.controlPlane, "controlplane", "", "Folder that hack/controlplane/build.sh prints.")
	flags.StringVar(&o.programs, "programs", "", "Folder that hack/node/build.sh prints.")
	flags.StringVar(&images, "images", "", "OCI archives to import, between commas.")
	flags.StringVar(&o.group, "group", fmt.Sprintf("%s%d", groupPrefix, os.Getpid()), "Name of the control groups.")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.command = flags.Args()
	for _, folder := range []*string{&o.state, &o.controlPlane, &o.programs} {
		absolute, err := filepath.Abs(*folder)
		if err != nil {
			return o, err
		}
		*folder = absolute
	}
	if images != "" {
		o.images = strings.Split(images, ",")
	}
	return o, nil
}

// args returns the arguments of the next stage, with the same flags.
func (o options) args(stage string) []string {
	return append([]string{
		stage, "-state", o.state, "-controlplane", o.controlPlane, "-programs", o.programs,
		"-images", strings.Join(o.images, ","), "-group", o.group, "--",
	}, o.command...)
}
