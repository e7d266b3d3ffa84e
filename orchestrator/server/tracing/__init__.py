"""OpenTelemetry traces of turns: made of the events that leave sessions, sent as OTLP."""
