{{- define "tachograph.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tachograph.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "tachograph.fullname" .) -}}
{{- end -}}

{{/* The name is no value: the job's name follows from it, and rules and boards ask for the job `tachograph`. */}}
{{- define "tachograph.selector" -}}
app.kubernetes.io/name: tachograph
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tachograph.labels" -}}
{{ include "tachograph.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tachograph.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tachograph.port" -}}
{{- required "config.listen is needed: the loopback address, which is the agent's default, reaches nobody in a pod" .Values.config.listen | splitList ":" | last | int -}}
{{- end -}}

{{/* One value of TOML. Helm's toToml writes 1000 as 1000.0; JSON's scalars are TOML's. */}}
{{- define "tachograph.tomlValue" -}}
{{- if kindIs "map" . -}}
{ {{- $first := true -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- if not $first }},{{ end }} {{ $key }} = {{ include "tachograph.tomlValue" $value }}
{{- $first = false -}}
{{- end -}}
{{- end }} }
{{- else if kindIs "slice" . -}}
[
{{- range $at, $value := . -}}
{{- if $at }}, {{ end }}{{ include "tachograph.tomlValue" $value }}
{{- end -}}
]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{/* The agent's file: plain settings first, then a table for each section. */}}
{{- define "tachograph.toml" -}}
# The values under `config`.
{{- range $key, $value := .Values.config }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ include "tachograph.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $section, $settings := .Values.config }}
{{- if kindIs "map" $settings }}

[{{ $section }}]
{{- range $key, $value := $settings }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ include "tachograph.tomlValue" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whether the listener speaks TLS. */}}
{{- define "tachograph.tls" -}}
{{- with dig "serve" "tls_cert_file" "" .Values.config }}true{{ end -}}
{{- end -}}

{{/* /healthz and /readyz are open, whatever the listener asks for elsewhere. */}}
{{- define "tachograph.probe" -}}
{{- $get := dict "path" (index . 1) "port" "metrics" "scheme" (ternary "HTTPS" "HTTP" (ne "" (include "tachograph.tls" (index . 0)))) -}}
{{- toYaml (merge (dict "httpGet" $get) (index . 2)) -}}
{{- end -}}

{{/* An endpoint of a monitor: what the kit's own has, then the interval and the operator's wishes. */}}
{{- define "tachograph.endpoint" -}}
{{- $root := index . 0 -}}
{{- $monitor := index . 1 -}}
{{- $kit := $root.Files.Get "files/podmonitor.yaml" | fromYaml -}}
{{- $endpoint := index $kit.spec.podMetricsEndpoints 0 -}}
{{- $_ := set $endpoint "interval" $monitor.interval -}}
{{- if include "tachograph.tls" $root }}{{ $_ := set $endpoint "scheme" "https" }}{{ end -}}
{{- toYaml (mergeOverwrite $endpoint $monitor.endpoint) -}}
{{- end -}}
