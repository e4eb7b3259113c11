"""llama.cpp's own HTTP server on an ephemeral loopback port, as a process: `python llamacpp_server.py MODEL.gguf`.

Prints the base URL as its only line on standard output when it answers requests, and serves until its standard input
is closed, so that it can never outlive the test that started it.
"""

import sys

import xllamacpp  # type: ignore[import-untyped]


def main(model: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = 0
    params.model_alias = {"tiny"}
    params.n_ctx = 8192  # shared by the slots: 4096 tokens each
    params.n_parallel = 2  # as many choices as one request may ask for
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 4
    params.cache_prompt = False  # a cached prefix changes the batches, and so the rounding, of the next answer
    params.cache_ram_mib = 0
    params.warmup = False
    params.fit_params = False
    params.ui = False
    params.offline = True
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
