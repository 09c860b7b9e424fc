{{- define "forebay.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "forebay.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "forebay.labels" -}}
{{ include "forebay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* forebay.toml. Helm reads whole numbers as fractions: 4 would be 4.0, which is no integer. */ -}}
{{- define "forebay.config" -}}
{{- if kindIs "string" .Values.config }}{{ .Values.config }}
{{- else }}{{ regexReplaceAll "(?m)^(\\s*\\S+ = -?[0-9]+)\\.0$" (toToml .Values.config) "${1}" }}{{ end }}
{{- end }}

{{- /* Ports of the service, each with the port in the pod. One that no listener has is a mistake. */ -}}
{{- define "forebay.ports" -}}
{{- $ports := list }}
{{- range .Values.service.ports }}
{{- $target := int (default .port .targetPort) }}
{{- if and (kindIs "map" $.Values.config) (hasKey $.Values.config "listener") }}
{{- $found := false }}
{{- range $.Values.config.listener }}{{ if hasSuffix (printf ":%d" $target) .bind }}{{ $found = true }}{{ end }}{{ end }}
{{- if not $found }}{{ fail (printf "service.ports: no listener of config has port %d" $target) }}{{ end }}
{{- end }}
{{- $ports = append $ports (dict "name" .name "port" (int .port) "target" $target) }}
{{- end }}
{{- toJson (dict "ports" $ports) }}
{{- end }}
