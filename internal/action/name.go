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

package action

import (
	"errors"

	"k8s.io/apimachinery/pkg/util/validation"
)

var (
	errName      = errors.New("use lower-case letters, digits and hyphens, also dots between them; begin and end with a letter or digit; at most 63 characters, such as acme-crm")
	errNamespace = errors.New("use lower-case letters, digits and hyphens; begin and end with a letter or digit; at most 63 characters, such as partner-acme")
)

// CheckName returns an error that describes valid names, if the API server would refuse this name of a Postback.
func CheckName(name string) error {
	// Each delivery has the name as the value of a label.
	if len(validation.IsDNS1123Subdomain(name)) > 0 || len(name) > validation.LabelValueMaxLength {
		return errName
	}
	return nil
}

// CheckNamespace returns an error that describes valid names, if this is no name of a namespace.
func CheckNamespace(name string) error {
	if len(validation.IsDNS1123Label(name)) > 0 {
		return errNamespace
	}
	return nil
}
