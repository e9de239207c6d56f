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
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func bearer(secret, key string) *v1alpha1.Authentication {
	return &v1alpha1.Authentication{Bearer: &v1alpha1.BearerAuthentication{SecretKeyRef: v1alpha1.SecretKeySelector{Name: secret, Key: key}}}
}

func basic(secret string) *v1alpha1.Authentication {
	return &v1alpha1.Authentication{Basic: &v1alpha1.BasicAuthentication{SecretRef: v1alpha1.LocalReference{Name: secret}}}
}

func oauth2(secret, tokenURL string) *v1alpha1.Authentication {
	return &v1alpha1.Authentication{OAuth2: &v1alpha1.OAuth2ClientCredentials{
		TokenURL: tokenURL, ClientID: "postback", ClientSecretRef: v1alpha1.SecretKeySelector{Name: secret, Key: "secret"},
		Scopes: []v1alpha1.OAuth2Scope{"hooks:write", "hooks:read"}, Audience: "crm",
	}}
}

func secretOf(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{}}
	for key, value := range data {
		s.Data[key] = []byte(value)
	}
	return s
}

const tokenURL = "https://auth.example.com/token"

func TestAuthFromSecrets(t *testing.T) {
	tests := map[string]struct {
		auth *v1alpha1.Authentication
		data map[string]string
		want route.Auth
	}{
		"bearer": {bearer("auth", "token"), map[string]string{"token": "s3cret.tok-en"}, route.Auth{Bearer: "s3cret.tok-en"}},
		"basic": {
			basic("auth"),
			map[string]string{"username": "jane", "password": "s3cret: pass "},
			route.Auth{Basic: &route.BasicAuth{Username: "jane", Password: "s3cret: pass "}},
		},
		"OAuth 2.0": {oauth2("auth", tokenURL), map[string]string{"secret": "s3cret"}, route.Auth{OAuth2: &route.OAuth2{
			TokenURL: tokenURL, ClientID: "postback", ClientSecret: "s3cret", Scopes: []string{"hooks:write", "hooks:read"}, Audience: "crm",
		}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.Auth = tt.auth }))
			b.heartbeat("east", loadedEverything)
			_, result := b.settle("crm")
			b.checkPostback("crm", stateReconciling, v1alpha1.AuthSecretNotFoundReason, `Secret "auth"`)
			if result.RequeueAfter != time.Minute || b.route("crm") != nil {
				t.Errorf("looks again after %s", result.RequeueAfter)
			}
			b.create(secretOf("auth", nil))
			b.settle("crm")
			b.checkPostback("crm", stateReconciling, v1alpha1.AuthSecretNotFoundReason, "no data key")
			modify(b, &corev1.Secret{}, "auth", func(s *corev1.Secret) { s.Data = secretOf("", tt.data).Data })
			b.settle("crm")
			b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
			if got := b.route("crm").Auth; !equalAuth(got, &tt.want) {
				t.Fatalf("the route has %+v", got)
			}
			// The Secret is lost: one warning, and the previous route stays.
			b.told()
			b.must(b.direct.Delete(b.ctx, b.secret("auth")))
			b.settle("crm")
			b.checkPostback("crm", stateReconciling, v1alpha1.AuthSecretNotFoundReason, "make it")
			if told := b.told(); len(told) != 1 || !strings.Contains(told[0], v1alpha1.AuthSecretNotFoundReason) {
				t.Errorf("events %q", told)
			}
			if got := b.route("crm").Auth; !equalAuth(got, &tt.want) {
				t.Error("the last good route did not stay")
			}
		})
	}
}

func equalAuth(a, b *route.Auth) bool {
	first, err := (&route.Route{Auth: a}).ToSecret("route")
	if err != nil {
		return false
	}
	second, err := (&route.Route{Auth: b}).ToSecret("route")
	return err == nil && route.SameData(first, second)
}

// A replaced token takes effect without making the Postback unready.
func TestRotatedTokenDoesNotMakeItUnready(t *testing.T) {
	b := newBench(t)
	b.create(secretOf("auth", map[string]string{"token": "one"}))
	b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.Auth = bearer("auth", "token") }))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	b.heartbeat("east", b.routeSecret("crm").ResourceVersion)
	b.settle("crm")
	modify(b, &corev1.Secret{}, "auth", func(s *corev1.Secret) { s.Data["token"] = []byte("two") })
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if got := b.route("crm").Auth.Bearer; got != "two" {
		t.Errorf("the route has %q", got)
	}
}

func TestInvalidCredentials(t *testing.T) {
	tests := map[string]struct {
		auth *v1alpha1.Authentication
		data map[string]string
		want string
	}{
		"token with a line break":         {bearer("auth", "token"), map[string]string{"token": "s3cret\n"}, "printf instead of echo"},
		"token with the word":             {bearer("auth", "token"), map[string]string{"token": "Bearer s3cret"}, "without the word Bearer"},
		"empty token":                     {bearer("auth", "token"), map[string]string{"token": ""}, "is empty"},
		"token with a control character":  {bearer("auth", "token"), map[string]string{"token": "s3cret\x00"}, "control character"},
		"token that is not UTF-8":         {bearer("auth", "token"), map[string]string{"token": "s3cret\xff"}, "not UTF-8"},
		"token too long":                  {bearer("auth", "token"), map[string]string{"token": strings.Repeat("s3cret", 2000)}, "longer than 8192"},
		"password with a line break":      {basic("auth"), map[string]string{"username": "jane", "password": "s3cret\n"}, `data key "password") contains a line break`},
		"user name with a line break":     {basic("auth"), map[string]string{"username": "jane\r\n", "password": "s3cret"}, `data key "username") contains a line break`},
		"user name with a colon":          {basic("auth"), map[string]string{"username": "s3cret:x", "password": "s3cret"}, "colon"},
		"client secret with a line break": {oauth2("auth", tokenURL), map[string]string{"secret": "s3cret\n"}, "line break"},
		"empty client secret":             {oauth2("auth", tokenURL), map[string]string{"secret": ""}, "is empty"},
	}
	b := newBench(t)
	b.heartbeat("east", loadedEverything)
	names := 0
	for name, tt := range tests {
		names++
		object := "crm-" + string(rune('a'+names))
		t.Run(name, func(t *testing.T) {
			secret := tt.auth.DeepCopy()
			rename(secret, object+"-auth")
			b.create(secretOf(object+"-auth", tt.data))
			b.create(newPostback(object, func(p *v1alpha1.Postback) { p.Spec.Auth = secret }))
			b.settle(object)
			b.checkPostback(object, stateStalled, v1alpha1.InvalidAuthReason, tt.want)
			told := b.told()
			if len(told) == 0 || strings.Contains(strings.Join(told, " ")+describe(b.postback(object).Status.Conditions), "s3cret") {
				t.Errorf("a condition or an event shows the value, or there is no event: %q", told)
			}
		})
	}
}

func rename(auth *v1alpha1.Authentication, secret string) {
	switch {
	case auth.Basic != nil:
		auth.Basic.SecretRef.Name = secret
	case auth.Bearer != nil:
		auth.Bearer.SecretKeyRef.Name = secret
	case auth.OAuth2 != nil:
		auth.OAuth2.ClientSecretRef.Name = secret
	}
}

func TestPolicyOfAuth(t *testing.T) {
	strict, lax := Policy{SignatureHeader: "Dub-Signature"}, Policy{SignatureHeader: "Dub-Signature", AllowPlainHTTP: true}
	both := bearer("crm-login", "token")
	both.Basic = basic("crm-login").Basic
	tests := map[string]struct {
		policy Policy
		spec   v1alpha1.PostbackSpec
		reason string
	}{
		"bearer":                     {strict, v1alpha1.PostbackSpec{Auth: bearer("crm-login", "token")}, ""},
		"https":                      {strict, v1alpha1.PostbackSpec{Auth: oauth2("crm-client", tokenURL)}, ""},
		"http":                       {strict, v1alpha1.PostbackSpec{Auth: oauth2("crm-client", "http://auth.example.com/")}, v1alpha1.PlainHTTPNotAllowedReason},
		"http allowed":               {lax, v1alpha1.PostbackSpec{Auth: oauth2("crm-client", "http://auth.example.com/")}, ""},
		"no host":                    {strict, v1alpha1.PostbackSpec{Auth: oauth2("crm-client", "https:///token")}, v1alpha1.InvalidAuthReason},
		"user":                       {strict, v1alpha1.PostbackSpec{Auth: oauth2("crm-client", "https://me:s3cret@auth.example.com/")}, v1alpha1.InvalidAuthReason},
		"none":                       {strict, v1alpha1.PostbackSpec{Auth: &v1alpha1.Authentication{}}, v1alpha1.InvalidAuthReason},
		"two":                        {strict, v1alpha1.PostbackSpec{Auth: both}, v1alpha1.InvalidAuthReason},
		"with a header of that name": {strict, v1alpha1.PostbackSpec{Auth: bearer("crm-login", "token"), Headers: []v1alpha1.Header{{Name: "aUTHORIZATION", Value: new(string)}}}, v1alpha1.InvalidAuthReason},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.spec.URL = "https://crm.example.com/"
			v := tt.policy.check(&tt.spec)
			switch {
			case v == nil && tt.reason != "":
				t.Errorf("accepted, want %s", tt.reason)
			case v != nil && (v.reason != tt.reason || strings.Contains(v.message, "s3cret")):
				t.Errorf("%+v, want %q", v, tt.reason)
			}
		})
	}
}

// A change of any Secret that a spec can name enqueues its Postback.
func TestValueSecretsAreAllIndexed(t *testing.T) {
	p := newPostback("crm", func(p *v1alpha1.Postback) {
		p.Spec.Headers = []v1alpha1.Header{{Name: "X-Key", ValueFrom: &v1alpha1.HeaderSource{SecretKeyRef: &v1alpha1.SecretKeySelector{Name: "header"}}}, {Name: "X-Plain"}}
		p.Spec.TLS = &v1alpha1.TLS{
			CASecretRef: &v1alpha1.SecretKeySelector{Name: "ca"}, ClientCertificateSecretRef: &v1alpha1.LocalReference{Name: "client"},
		}
	})
	for name, auth := range map[string]*v1alpha1.Authentication{"bearer": bearer("auth", "x"), "basic": basic("auth"), "OAuth 2.0": oauth2("auth", tokenURL)} {
		t.Run(name, func(t *testing.T) {
			p.Spec.Auth = auth
			if got := valueSecrets(p); !slices.Equal(got, []string{"auth", "ca", "client", "header"}) {
				t.Errorf("%s: %v", name, got)
			}
		})
	}
}
