{{- define "tickstream.labels" -}}
app.kubernetes.io/name: tickstream
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tickstream.meta" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "tickstream.labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tickstream.kind" -}}
{{ if .Values.events.enabled }}StatefulSet{{ else }}Deployment{{ end }}
{{- end }}

{{- define "tickstream.config" -}}
{{ .Files.Get "files/tickstream.toml" }}
{{- with .Values.settings }}
{{ . }}
{{- end }}
{{- end }}
