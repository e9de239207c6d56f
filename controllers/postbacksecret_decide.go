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

package controllers

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// keyChange is the reason for a new key.
type keyChange string

const (
	keyKept      keyChange = ""
	keyFirst     keyChange = "the first key"
	keyLost      keyChange = "the previous key was lost"
	keyRequested keyChange = "requested"
	keyScheduled keyChange = "scheduled"
)

// cause returns the value of the metric's label "cause", or "" if the key does not change.
func (c keyChange) cause() string {
	switch c {
	case keyFirst:
		return causeFirst
	case keyLost:
		return causeLost
	case keyRequested:
		return causeRequested
	case keyScheduled:
		return causeScheduled
	case keyKept:
	}
	return ""
}

// keyDecision is the desired content of a generated Secret.
type keyDecision struct {
	keyring keyring.Keyring
	change  keyChange
	// nextExpiry is the time at which a previous key ends, nextRotation that of the next rotation; zero means never.
	nextExpiry, nextRotation time.Time
}

// decideKeys decides the keys of a core Secret from its PostbackSecret and its present content. secret is nil if it
// does not exist. decideKeys calls newKey only for a new key.
func decideKeys(object *v1alpha1.PostbackSecret, secret *corev1.Secret, now time.Time, newKey func() string) keyDecision {
	var (
		d        keyDecision
		asked    = requested(object)
		overlap  = object.Spec.GetOverlap()
		every    = object.Spec.GetEvery()
		remember = remembered(object)
	)
	if secret == nil {
		d.change = keyFirst
		if remember.Version > 0 {
			d.change = keyLost
		}
		d.keyring = keyring.First(newKey(), remember.Version, asked.Or(remember.Handled), now)
	} else {
		d.keyring = keyring.Read(secret, remember, now)
		d.change = whyRotate(d.keyring, asked, every, now)
		if d.change != keyKept {
			d.keyring = d.keyring.Rotate(newKey(), overlap, now)
			d.keyring.Handled = asked.Or(d.keyring.Handled)
		}
	}
	d.keyring, d.nextExpiry = d.keyring.Expire(overlap, now)
	d.nextRotation = keyring.NextRotation(every, d.keyring.RotatedAt, now)
	return d
}

// whyRotate returns the reason to replace the current key, or keyKept. The handled tokens in the Secret decide,
// because they are written together with the key; the status may lag behind.
func whyRotate(k keyring.Keyring, asked keyring.Requests, every time.Duration, now time.Time) keyChange {
	due := keyring.NextRotation(every, k.RotatedAt, now)
	switch {
	case k.Current == "":
		return keyLost
	case asked.Beyond(k.Handled):
		return keyRequested
	case !due.IsZero() && !due.After(now):
		return keyScheduled
	}
	return keyKept
}

// frozen reports whether the change of a Secret to desired would fail, because the Secret is immutable.
func frozen(secret, desired *corev1.Secret) bool {
	return secret != nil && ptr.Deref(secret.Immutable, false) && !equality.Semantic.DeepEqual(secret.Data, desired.Data)
}

// requested returns the rotation requests on a PostbackSecret: its own, and those that Postbacks passed on.
func requested(object *v1alpha1.PostbackSecret) keyring.Requests {
	return keyring.Requests{
		Own:    v1alpha1.HandledToken(object.Annotations[v1alpha1.RotateSecretAnnotation]),
		Passed: v1alpha1.HandledToken(object.Annotations[v1alpha1.PassedRotateSecretAnnotation]),
	}
}

// handledBefore returns the last handled requests in the status.
func handledBefore(object *v1alpha1.PostbackSecret) keyring.Requests {
	return keyring.Requests{Own: object.Status.LastHandledRotateSecret, Passed: object.Status.LastHandledRotateSecretFromPostback}
}

// remembered returns the status's record of the Secret.
func remembered(object *v1alpha1.PostbackSecret) keyring.Remembered {
	r := keyring.Remembered{Version: object.Status.Version, Handled: handledBefore(object)}
	if at := object.Status.LastRotationTime; at != nil {
		r.RotatedAt = at.Time
	}
	return r
}
