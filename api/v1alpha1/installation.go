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

// Names of objects in the namespace of the installation. The manager, the dispatcher and the clients use the same
// names.
const (
	// IngestServiceName is the Service of the dispatcher's ingest. The certificate of ingest has its DNS names.
	IngestServiceName = "postback-ingest"
	// IngestPortName is the name of that Service's port, and of the dispatcher's container port.
	IngestPortName = "ingest"
	// IngestCertificateName is the Secret of type kubernetes.io/tls with the certificate of ingest.
	IngestCertificateName = "postback-ingest-tls"
	// IngestCAName is the Secret of type kubernetes.io/tls with the CA of a self-managed certificate. The ConfigMap
	// with the CAs that producers have to trust has the same name.
	IngestCAName = "postback-ingest-ca"
	// CABundleKey is the data key of the CAs to trust, in PEM, in these Secrets and in the ConfigMap.
	CABundleKey = "ca.crt"
	// IntakeLeaseName is the Lease whose IntakeAnnotation tells clients the dispatcher's --intake. It exists only
	// with the JetStream intake.
	IntakeLeaseName = "postback-intake"
	// RetriesLeaseName is the Lease that elects the dispatcher replica that owns the retries.
	RetriesLeaseName = "postback-dispatcher-retries"
)
