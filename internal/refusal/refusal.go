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

// Package refusal distinguishes temporary refusals of the API server from lasting ones.
package refusal

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kind is the kind of a lasting refusal, or None.
type Kind string

const (
	// None means that the same request may succeed when it is repeated.
	None Kind = ""
	// Policy means that a ValidatingAdmissionPolicy, an admission webhook or another admission plugin denies the
	// object.
	Policy Kind = "PolicyDenied"
	// Quota means that a ResourceQuota is used up.
	Quota Kind = "QuotaExceeded"
	// Forbidden means that the caller lacks a right. An API server that has just started also answers so, until it
	// has read the roles.
	Forbidden Kind = "Forbidden"
	// Invalid means that the object violates the schema or the validation rules of its kind.
	Invalid Kind = "Invalid"
	// TooLarge means that the object exceeds a limit of the API server or etcd.
	TooLarge Kind = "TooLarge"
	// Terminating and NotFound describe the namespace of the object.
	Terminating Kind = "NamespaceTerminating"
	NotFound    Kind = "NamespaceNotFound"
)

// maxMessage bounds the quoted part of a message, in bytes: a policy can write a megabyte.
const maxMessage = 512

// Of returns the kind of an API server's error, and its message. The message quotes no value of the object, unless a
// policy's author wrote it so.
func Of(err error) (Kind, string) {
	status := statusOf(err)
	switch {
	case isTooLarge(err):
		return TooLarge, ""
	case status == nil:
		return None, ""
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return Terminating, ""
	case apierrors.IsNotFound(err) && status.Details != nil && status.Details.Kind == "namespaces":
		return NotFound, ""
	case status.Code >= http.StatusInternalServerError || status.Code == http.StatusTooManyRequests:
		// A webhook failed or cannot be reached. The API server answers 500, whatever the object is.
		return None, ""
	case denied(status.Message) >= 0:
		return Policy, bounded(status.Message[denied(status.Message):])
	case apierrors.IsInvalid(err):
		return Invalid, bounded(fields(status))
	case apierrors.IsForbidden(err):
		return forbidden(status.Message)
	}
	return None, ""
}

// Object names the object of an API server's error, such as: secrets "crm".
func Object(err error) string {
	status := statusOf(err)
	if status == nil || status.Details == nil || status.Details.Kind == "" {
		return "a request"
	}
	return fmt.Sprintf("%s %q", strings.ToLower(status.Details.Kind), status.Details.Name)
}

// forbidden distinguishes the causes of a 403 by the message, the only difference between them.
func forbidden(message string) (Kind, string) {
	_, why, _ := strings.Cut(message, " is forbidden: ")
	switch {
	case strings.Contains(message, "not yet ready to handle request"), strings.Contains(message, "status unknown for quota"):
		return None, "" // An admission plugin has not read its objects yet.
	case strings.Contains(message, "exceeded quota"):
		return Quota, bounded(why)
	case strings.HasPrefix(why, "User "), why == "":
		return Forbidden, bounded(message)
	}
	return Policy, bounded(why)
}

// denied returns the position in a message at which the text of a policy or webhook begins, or -1. Before a policy's
// text the API server puts the object's name.
func denied(message string) int {
	for _, words := range [][2]string{
		{"admission webhook ", " denied the request"},
		{"ValidatingAdmissionPolicy '", " denied request"},
		{"policy '", " denied request"},
		{"policy \"", " denied request"},
	} {
		if start := strings.Index(message, words[0]); start >= 0 && strings.Contains(message[start:], words[1]) {
			return start
		}
	}
	return -1
}

// fields lists the invalid fields and their kinds of error, without the values.
func fields(status *metav1.Status) string {
	if status.Details == nil {
		return ""
	}
	var invalid []string
	for _, cause := range status.Details.Causes {
		if named := cause.Field + ": " + string(cause.Type); cause.Field != "" && !slices.Contains(invalid, named) {
			invalid = append(invalid, named)
		}
	}
	return strings.Join(invalid, ", ")
}

func statusOf(err error) *metav1.Status {
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return &status.ErrStatus
	}
	return nil
}

func isTooLarge(err error) bool {
	return apierrors.IsRequestEntityTooLargeError(err) && denied(err.Error()) < 0 ||
		strings.Contains(err.Error(), "etcdserver: request is too large") ||
		strings.Contains(err.Error(), "trying to send message larger than max")
}

func bounded(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}
