"""Test equipment: a stand-in for vLLM that writes the truth about each request, and a client that loads it.

`python -m standin serve` is the engine, `load` the client, `selfcheck` holds its messages against vLLM's own
classes. The engine is made of the parts that vLLM is made of (uvicorn, uvloop, httptools, OpenSSL, pyzmq,
msgspec), so that system calls, library calls and bytes are the same; only the model is a timer.
"""
