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

package keyring

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func threeKeys() Keyring {
	return First(New(), 0, Requests{Own: "one", Passed: "crm/one"}, t0).Rotate(New(), 24*time.Hour, t0.Add(time.Hour)).Rotate(New(), 24*time.Hour, t0.Add(2*time.Hour))
}

func stored(k Keyring) *corev1.Secret {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "crm", CreationTimestamp: metav1.NewTime(t0.Add(-time.Hour))}}
	k.Write(secret)
	return secret
}

func TestSecretRoundTrip(t *testing.T) {
	want := threeKeys()
	secret := stored(want)
	if got := Read(secret, Remembered{}, t0); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	again := secret.DeepCopy()
	Read(secret, Remembered{}, t0).Write(again)
	if !reflect.DeepEqual(secret, again) {
		t.Error("writing what was read changes the Secret")
	}
	keys, err := Generated(secret)
	if err != nil || !slices.Equal(keys, want.Keys()) {
		t.Errorf("keys %v, %v", keys, err)
	}
}

func TestWriteLeavesNothingOfOldKeysAndKeepsWhatIsNotOurs(t *testing.T) {
	secret := stored(threeKeys())
	secret.Data["previous-note"], secret.Data["other"] = []byte("x"), []byte("y")
	secret.Annotations["team"] = "crm"
	only := First(New(), 3, Requests{Own: "two", Passed: "crm/two"}, t0)
	only.Write(secret)
	if len(secret.Data) != 3 || string(secret.Data["secret"]) != only.Current || string(secret.Data["other"]) != "y" {
		t.Errorf("data has %d keys", len(secret.Data))
	}
	want := map[string]string{"team": "crm", VersionAnnotation: "4", RotatedAtAnnotation: "2026-03-01T12:00:00Z", HandledAnnotation: "two", HandledPassedAnnotation: "crm/two"}
	if !reflect.DeepEqual(secret.Annotations, want) {
		t.Errorf("annotations %v", secret.Annotations)
	}
}

func TestReadLosesNoKeyToAnEditedAnnotation(t *testing.T) {
	k := threeKeys()
	now := t0.Add(3 * time.Hour)
	remembered := Remembered{Version: 3, RotatedAt: t0.Add(2 * time.Hour), Handled: Requests{Own: "one", Passed: "crm/one"}}
	tests := map[string]struct {
		edit       func(map[string]string)
		remembered Remembered
		want       func(*Keyring)
	}{
		"no version":            {func(a map[string]string) { delete(a, VersionAnnotation) }, remembered, nil},
		"no version, no status": {func(a map[string]string) { delete(a, VersionAnnotation) }, Remembered{}, nil},
		"version is text":       {func(a map[string]string) { a[VersionAnnotation] = "three" }, remembered, nil},
		"version too low":       {func(a map[string]string) { a[VersionAnnotation] = "1" }, Remembered{}, nil},
		"version negative":      {func(a map[string]string) { a[VersionAnnotation] = "-9223372036854775808" }, remembered, nil},
		"version overflows":     {func(a map[string]string) { a[VersionAnnotation] = "9223372036854775807" }, remembered, nil},
		"version not canonical": {func(a map[string]string) { a[VersionAnnotation] = "0009" }, remembered, nil},
		"status is ahead":       {func(map[string]string) {}, Remembered{Version: 7}, func(k *Keyring) { k.Version = 7 }},
		"no time":               {func(a map[string]string) { delete(a, RotatedAtAnnotation) }, remembered, nil},
		"time is text":          {func(a map[string]string) { a[RotatedAtAnnotation] = "yesterday" }, remembered, nil},
		"no time, no status": {
			func(a map[string]string) { delete(a, RotatedAtAnnotation) },
			Remembered{},
			func(k *Keyring) { k.RotatedAt = t0.Add(-time.Hour) },
		},
		"no retirement": {
			func(a map[string]string) { delete(a, "postback.dev/retired-1") }, remembered,
			func(k *Keyring) { k.Previous[1].RetiredAt = now },
		},
		"retirement is text": {
			func(a map[string]string) { a["postback.dev/retired-2"] = "soon" }, remembered,
			func(k *Keyring) { k.Previous[0].RetiredAt = now },
		},
		"no handled token": {func(a map[string]string) { delete(a, HandledAnnotation) }, remembered, nil},
		"no passed token":  {func(a map[string]string) { delete(a, HandledPassedAnnotation) }, remembered, nil},
		"no annotation at all": {func(a map[string]string) { clear(a) }, remembered, func(k *Keyring) {
			k.Previous[0].RetiredAt, k.Previous[1].RetiredAt = now, now
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			secret := stored(k)
			test.edit(secret.Annotations)
			want := k
			want.Previous = slices.Clone(k.Previous)
			if test.want != nil {
				test.want(&want)
			}
			if got := Read(secret, test.remembered, now); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestReadLeavesOutWhatCannotSign(t *testing.T) {
	secret := stored(threeKeys())
	secret.Data["secret"] = []byte("spoiled")
	secret.Data["previous-1"] = []byte("whsec_spoiled")
	k := Read(secret, Remembered{}, t0)
	if k.Current != "" || len(k.Previous) != 1 || k.Previous[0].Version != 2 || k.Version != 3 {
		t.Errorf("got %+v", k)
	}
	if _, err := Generated(secret); err == nil || strings.Contains(err.Error(), "spoiled") {
		t.Errorf("got %v", err)
	}
	delete(secret.Data, "secret")
	if k = Read(secret, Remembered{}, t0); k.Current != "" || k.Version != 3 {
		t.Errorf("got %+v", k)
	}
}

func TestExternal(t *testing.T) {
	a, b := New(), New()
	tests := map[string]struct {
		data  map[string]string
		keys  []string
		err   string
		found bool
	}{
		"one":              {map[string]string{"secret": a}, []string{a}, "", true},
		"two":              {map[string]string{"secret": a, "previous": b}, []string{a, b}, "", true},
		"twice the same":   {map[string]string{"secret": a, "previous": a}, []string{a}, "", true},
		"none":             {map[string]string{"key": a}, nil, `Secret "crm" has no data key "secret"`, false},
		"previous alone":   {map[string]string{"previous": a}, nil, `Secret "crm" has no data key "secret"`, false},
		"empty":            {map[string]string{"secret": ""}, nil, `data key "secret" of Secret "crm" is empty`, true},
		"spoiled":          {map[string]string{"secret": a + "\n"}, nil, "ends with a line break", true},
		"spoiled previous": {map[string]string{"secret": a, "previous": "old"}, nil, `data key "previous" of Secret "crm" does not begin`, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "crm"}, Data: map[string][]byte{}}
			for name, value := range test.data {
				secret.Data[name] = []byte(value)
			}
			keys, err := External(secret)
			if !slices.Equal(keys, test.keys) || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %v, %v", keys, err)
			}
			if _, missing := errors.AsType[*NotFoundError](err); missing == test.found {
				t.Errorf("got %T", err)
			}
		})
	}
}

// Rotations still work after an edit of the version, and no previous key outlives its overlap.
func TestEditedVersionLeavesNoKeyForEver(t *testing.T) {
	for name, edit := range map[string]func(*corev1.Secret, *Remembered){
		"annotation at its limit":         func(s *corev1.Secret, _ *Remembered) { s.Annotations[VersionAnnotation] = "4294967296" },
		"annotation beyond its limit":     func(s *corev1.Secret, _ *Remembered) { s.Annotations[VersionAnnotation] = "4294967297" },
		"annotation at the limit of data": func(s *corev1.Secret, _ *Remembered) { s.Annotations[VersionAnnotation] = "1099511627776" },
		"status at the limit of data":     func(_ *corev1.Secret, r *Remembered) { r.Version = 1099511627776 },
		"status at the limit of numbers":  func(_ *corev1.Secret, r *Remembered) { r.Version = 9223372036854775807 },
		"data at its limit":               func(s *corev1.Secret, _ *Remembered) { s.Data["previous-1099511627776"] = []byte(New()) },
		"data beyond its limit":           func(s *corev1.Secret, _ *Remembered) { s.Data["previous-1099511627777"] = []byte(New()) },
		"data at the limit of numbers":    func(s *corev1.Secret, _ *Remembered) { s.Data["previous-9223372036854775807"] = []byte(New()) },
	} {
		t.Run(name, func(t *testing.T) {
			const overlap = time.Hour
			secret := stored(First(New(), 0, Requests{}, t0))
			var remembered Remembered
			edit(secret, &remembered)
			for range 3 {
				k := Read(secret, remembered, t0).Rotate(New(), overlap, t0)
				k.Write(secret)
				remembered.Version = k.Version
				if string(secret.Data["secret"]) != k.Current || k.Version < 1 {
					t.Fatalf("version %d", k.Version)
				}
			}
			k, _ := Read(secret, remembered, t0.Add(overlap)).Expire(overlap, t0.Add(overlap))
			k.Write(secret)
			if len(secret.Data) != 1 {
				t.Errorf("%d data keys after the overlap, want the current one alone", len(secret.Data))
			}
		})
	}
}
