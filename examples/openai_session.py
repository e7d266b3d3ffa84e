"""The official OpenAI client, with a head start: partial text over HTTP, then an ordinary request.

pip install openai; python examples/openai_session.py [http://127.0.0.1:8000]
"""

import sys
import time

import httpx
from openai import OpenAI

QUESTION = "What is the port of Kestrel?"


def main(url: str) -> None:
    """Put the text as it is typed into a session; the request adopts what was prepared."""
    with httpx.Client(base_url=url) as http:
        session = http.post("/v1/live/sessions", json={}).raise_for_status().json()["id"]
        words = QUESTION.split()
        for count in range(1, len(words) + 1):
            body = {"text": " ".join(words[:count]), "revision": count}
            http.put(f"/v1/live/sessions/{session}/input", json=body).raise_for_status()
            time.sleep(0.3)
        client = OpenAI(base_url=f"{url}/v1", api_key="none")
        stream = client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            extra_headers={"X-LiveMind-Session": session},
        )
        for chunk in stream:
            if chunk.choices:
                print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()
        http.delete(f"/v1/live/sessions/{session}").raise_for_status()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
