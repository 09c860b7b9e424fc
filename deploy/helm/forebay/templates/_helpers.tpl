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

{{- /* Whether pods are instances of one broker. What would not work is a mistake. */ -}}
{{- define "forebay.instances" -}}
{{- if .Values.instances.enabled }}
{{- if and (kindIs "map" .Values.config) (not (hasKey .Values.config "broker")) }}{{ fail "instances: config has no broker" }}{{ end }}
{{- if lt (int .Values.terminationGracePeriodSeconds) 45 }}{{ fail "instances: terminationGracePeriodSeconds must be 45 or more: a pod gives its clients to others first" }}{{ end -}}
true
{{- end }}
{{- end }}

{{- /* How other pods find this one: by its name where they speak TLS, otherwise by its address. */ -}}
{{- define "forebay.link" -}}
{{- $link := dict }}
{{- if kindIs "map" .Values.config }}{{ $link = dig "link" dict (.Values.config.broker | default dict) }}{{ end }}
{{- if hasKey $link "cert_file" -}}
$(POD_NAME).{{ include "forebay.name" . }}-headless.{{ .Release.Namespace }}.svc:{{ .Values.instances.port }}
{{- else -}}
$(POD_IP):{{ .Values.instances.port }}
{{- end }}
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
