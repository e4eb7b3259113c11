"""`/v1/files` and `/v1/batches`: many requests answered later, over whatever batch API each target has.

A batch belongs to the proxy: its file is kept here, its lines go to the targets that their models name (natively where
the provider has a batch API, one after the other in the background where it has none and that is asked for), and its
results are put back into OpenAI's words. Everything is a file in one folder beside the store, replaced whole, so that
a batch goes on after a restart and is never submitted twice.
"""
