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

package sign_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

// BenchmarkSign signs by both schemes with two keys, as in the overlap of a rotation.
func BenchmarkSign(b *testing.B) {
	signer, err := sign.New(sign.DefaultDubHeader)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{200, 1500, 256 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			request := sign.Request{ID: "evt_1", Time: time.Now(), Body: bytes.Repeat([]byte("x"), size)}
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := signer.Sign(http.Header{}, both, []string{currentKey, previousKey}, request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
