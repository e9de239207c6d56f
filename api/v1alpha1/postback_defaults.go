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

package v1alpha1

import "time"

// GetFormat returns the format of the body, JSON if it is absent.
func (s *PostbackSpec) GetFormat() PayloadFormat {
	if s.Format == "" {
		return FormatJSON
	}
	return s.Format
}

// GetMaxConcurrent returns the bound of requests in flight at a time; 0 means that spec.limits sets none.
func (s *PostbackSpec) GetMaxConcurrent() int32 {
	if s.Limits == nil || s.Limits.MaxConcurrent == nil {
		return 0
	}
	return *s.Limits.MaxConcurrent
}

// GetPerSecond returns the number of requests that may begin in a second; 0 means no limit.
func (s *PostbackSpec) GetPerSecond() int32 {
	if s.Limits == nil || s.Limits.PerSecond == nil {
		return 0
	}
	return *s.Limits.PerSecond
}

// GetHistory returns how many delivered and failed deliveries are kept, and for how long.
func (s *PostbackSpec) GetHistory() (delivered, failed int32, ttl time.Duration) {
	delivered, failed, ttl = DefaultHistoryDelivered, DefaultHistoryFailed, DefaultHistoryTTL
	if h := s.History; h != nil {
		if h.Delivered != nil {
			delivered = *h.Delivered
		}
		if h.Failed != nil {
			failed = *h.Failed
		}
		if h.TTL != nil {
			ttl = h.TTL.Duration
		}
	}
	return delivered, failed, ttl
}

// GetState returns the state, Enabled if it is absent.
func (s *PostbackSpec) GetState() PostbackState {
	if s.State == "" {
		return PostbackEnabled
	}
	return s.State
}

// GetSignatures returns the signature schemes, by default all.
func (s *PostbackSpec) GetSignatures() []SignatureScheme {
	if len(s.Signatures) == 0 {
		return []SignatureScheme{SignatureDub, SignatureStandardWebhooks}
	}
	return s.Signatures
}

// GetTimeout returns the longest duration of one attempt.
func (s *PostbackSpec) GetTimeout() time.Duration {
	if s.Timeout == nil {
		return DefaultTimeout
	}
	return s.Timeout.Duration
}

// GetMaxAttempts returns the number of attempts after which a delivery fails; 0 means no limit.
func (s *PostbackSpec) GetMaxAttempts() int32 {
	if s.Retry == nil || s.Retry.MaxAttempts == nil {
		return 0
	}
	return *s.Retry.MaxAttempts
}

// GetGiveUpAfter returns the time after which a delivery fails; 0 means no limit.
func (s *PostbackSpec) GetGiveUpAfter() time.Duration {
	if s.Retry == nil || s.Retry.GiveUpAfter == nil {
		return 0
	}
	return s.Retry.GiveUpAfter.Duration
}

// GetMaxPending returns the number of unfinished deliveries at which new events are refused.
func (s *PostbackSpec) GetMaxPending() int32 {
	if s.Limits == nil || s.Limits.MaxPending == nil {
		return DefaultMaxPending
	}
	return *s.Limits.MaxPending
}
