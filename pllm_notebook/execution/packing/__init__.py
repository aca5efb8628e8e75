"""Several rows in one request: build the request, and split its reply."""
