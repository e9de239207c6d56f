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

package trace

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	serviceName = "postback-dispatcher"
	// protocol is the only built-in protocol.
	protocol = "http/protobuf"
	// flushTimeout bounds the export of the remaining spans at shutdown.
	flushTimeout = 5 * time.Second
)

// Start begins to export spans if the environment variables of OpenTelemetry name a collector; otherwise traces is
// nil. The SDK reads further variables. The caller must call stop at the end, which exports the remaining spans.
func Start(ctx context.Context, identity, version string, log logr.Logger) (traces *Traces, stop func(), err error) {
	if !wanted() {
		return nil, func() {}, nil
	}
	if p := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), protocol); p != protocol {
		return nil, nil, fmt.Errorf("the protocol of OTLP (OTEL_EXPORTER_OTLP_PROTOCOL) must be %s, not %q: collectors accept it on port 4318", protocol, p)
	}
	// The resource attributes of the environment come last, so they take precedence.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", serviceName), attribute.String("service.version", version),
		attribute.String("service.instance.id", identity),
	), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("make the exporter of traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Info("Cannot export traces", "reason", err.Error()) }))
	log.Info("Exporting traces")
	return New(provider), func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(bounded); err != nil {
			log.Info("Cannot export the last traces", "reason", err.Error())
		}
	}, nil
}

// wanted reports whether the environment names a collector.
func wanted() bool {
	endpoint := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") + os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	return endpoint != "" && !strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") && os.Getenv("OTEL_TRACES_EXPORTER") != "none"
}
