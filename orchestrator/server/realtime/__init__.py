"""``ws /v1/realtime``: the text part of the OpenAI Realtime API on live sessions."""
