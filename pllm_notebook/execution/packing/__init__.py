"""Several rows in one request: the request, and its reply taken apart again."""
