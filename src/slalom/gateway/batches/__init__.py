"""Files and batches over HTTP, in OpenAI's form, and the answering of their lines.

Owns the routes, the reading of uploads, and the two links from the runner of batches into this
gateway: a line is a request like a client's, and room for it is what clients leave idle.
"""
