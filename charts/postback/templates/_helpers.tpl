{{/* The labels of every object. */}}
{{- define "postback.labels" -}}
{{- $chart := printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- $labels := dict "app.kubernetes.io/part-of" "postback" "app.kubernetes.io/version" (.Values.image.tag | default .Chart.AppVersion) }}
{{- $labels = merge $labels (dict "app.kubernetes.io/instance" .Release.Name "app.kubernetes.io/managed-by" .Release.Service "helm.sh/chart" $chart) }}
{{- merge $labels .Values.labels | toYaml }}
{{- end }}

{{/* The labels by which a part, manager, dispatcher or portal, is selected. They never change. */}}
{{- define "postback.selector" -}}
app.kubernetes.io/name: postback-{{ . }}
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* The image of a part. Takes root and part. */}}
{{- define "postback.image" -}}
{{- $image := (index .root.Values .part).image }}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/*
The objects of the files that match a pattern. "make manifests" copies these files from config/, so that chart and
kustomize install the same objects. Takes root and files, and optionally: kinds, to leave out others; namespace, to put them there; labels;
annotations.
*/}}
{{- define "postback.objects" -}}
{{- $in := . }}
{{- range $path, $content := .root.Files.Glob .files }}
{{- range $document := splitList "\n---\n" (printf "\n%s" (toString $content)) }}
{{- $object := $document | replace "postback-system" $in.root.Release.Namespace | fromYaml }}
{{- if hasKey $object "Error" }}
{{- fail (printf "%s: %s" $path $object.Error) }}
{{- end }}
{{- if and $object.kind (or (not $in.kinds) (has $object.kind $in.kinds)) }}
{{- $labels := merge (include "postback.labels" $in.root | fromYaml) ($in.labels | default dict | deepCopy) ($object.metadata.labels | default dict) }}
{{- $_ := set $object.metadata "labels" $labels }}
{{- with $in.namespace }}
{{- $_ := set $object.metadata "namespace" . }}
{{- end }}
{{- with $in.annotations }}
{{- $_ := set $object.metadata "annotations" (merge (deepCopy .) ($object.metadata.annotations | default dict)) }}
{{- end }}
---
{{ toYaml $object }}
{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The common part of the Pods of all parts. Takes root and part. */}}
{{- define "postback.pod" -}}
{{- $values := index .root.Values .part }}
serviceAccountName: postback-{{ .part }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
{{ toYaml . }}
{{- end }}
{{- $embedded := and (eq .part "dispatcher") (include "postback.nats.embedded" .root) }}
{{- if $values.affinity }}
affinity:
  {{- toYaml $values.affinity | nindent 2 }}
{{- else if eq (toString $embedded) "3" }}
# The failure of one node stops one server, not two.
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "postback.selector" .part | nindent 10 }}
{{- end }}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "postback.selector" .part | nindent 6 }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
  {{- if and $embedded (not (hasKey .root.Values.podSecurityContext "fsGroup")) }}
  {{- with .root.Values.podSecurityContext.runAsGroup }}
  # The user of the NATS server owns the volume.
  fsGroup: {{ . }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  {{- end }}
{{- end }}

{{/* The common part of the containers of all parts. Takes root and part. */}}
{{- define "postback.container" -}}
{{- $values := index .root.Values .part }}
name: {{ .part }}
image: {{ include "postback.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
livenessProbe:
  httpGet: {path: /healthz, port: health}
  initialDelaySeconds: 15
  periodSeconds: 20
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
{{- $resources := $values.resources }}
{{- if and (eq .part "dispatcher") (include "postback.nats.embedded" .root) }}
{{- $resources = .root.Values.nats.embedded.resources }}
{{- end }}
{{- with $resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The PodDisruptionBudget of a part. A single replica has none, because it would prevent the drain of its node. Takes root and part,
and namespace if it is not that of the release. */}}
{{- define "postback.budget" -}}
{{- $values := index .root.Values .part }}
{{- $budget := $values.podDisruptionBudget }}
{{- $scaled := dig "autoscaling" "enabled" false $values }}
{{- $replicas := ternary (dig "autoscaling" "minReplicas" 0 $values) $values.replicas $scaled }}
{{- $embedded := and (eq .part "dispatcher") (include "postback.nats.embedded" .root) }}
{{- if $embedded }}
{{- $replicas = $embedded }}
{{- end }}
{{- if and $budget.enabled (gt (int $replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: postback-{{ .part }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  labels:
    {{- include "postback.selector" .part | nindent 4 }}
    {{- include "postback.labels" .root | nindent 4 }}
spec:
  {{- if $embedded }}
  # Two of three servers store a message. A Pod that is not ready may have the only second copy, so the budget counts it.
  minAvailable: 2
  {{- else }}
  minAvailable: {{ $budget.minAvailable }}
  # A Pod that is not ready serves nobody, so it must not prevent the drain of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  {{- end }}
  selector:
    matchLabels:
      {{- include "postback.selector" .part | nindent 6 }}
{{- end }}
{{- end }}

{{/* The flags of the JetStream intake. Takes the values nats. */}}
{{- define "postback.nats.args" -}}
- --intake=jetstream
{{- if .embedded.enabled }}
- --nats-embedded
- --nats-store-dir=/var/lib/postback/nats
- --nats-sync-interval={{ .embedded.syncInterval }}
{{- else }}
- --nats-url=$(NATS_URL)
- --nats-replicas={{ .replicas }}
{{- end }}
- --nats-duplicate-window={{ .duplicateWindow }}
{{- if and .groupCommit (not .embedded.enabled) }}
- --nats-group-commit
{{- end }}
- --nats-max-bytes={{ int64 .maxBytes }}
- --log-max-age={{ .log.maxAge }}
- --log-max-bytes={{ int64 .log.maxBytes }}
{{- if .embedded.enabled }}
{{- if gt (int .embedded.replicas) 1 }}
- --nats-cluster-peers=postback-dispatcher-0.postback-nats,postback-dispatcher-1.postback-nats,postback-dispatcher-2.postback-nats
- --nats-cluster-bind-address=:6222
- --nats-cluster-ca-file=/etc/postback/ingest-tls/ca.crt
{{- else }}
- --nats-group-commit
{{- end }}
{{- else }}
{{- if .credentialsSecret }}
- --nats-credentials-file=/etc/postback/nats-credentials/user.creds
{{- end }}
{{- if .caSecret }}
- --nats-ca-file=/etc/postback/nats-ca/ca.crt
{{- end }}
{{- if .tlsSecret }}
- --nats-tls-cert-file=/etc/postback/nats-tls/tls.crt
- --nats-tls-private-key-file=/etc/postback/nats-tls/tls.key
{{- end }}
{{- end }}
{{- end }}

{{/* The number of embedded servers; empty without them. */}}
{{- define "postback.nats.embedded" -}}
{{- if and (eq .Values.intake "jetstream") .Values.nats.embedded.enabled }}
{{- .Values.nats.embedded.replicas }}
{{- end }}
{{- end }}

{{/* The Secrets of the JetStream intake, by the names of their volumes. Takes the values nats. */}}
{{- define "postback.nats.secrets" -}}
{{- with .caSecret }}
nats-ca: {{ . | quote }}
{{- end }}
{{- with .credentialsSecret }}
nats-credentials: {{ . | quote }}
{{- end }}
{{- with .tlsSecret }}
nats-tls: {{ . | quote }}
{{- end }}
{{- end }}
