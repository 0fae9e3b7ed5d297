package faultproxy

import (
	"net/http"
	"slices"
)

// Operation is the name of the S3 operation that a request with a path-style address asks for, or "".
func Operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return "UploadPart"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "ListMultipartUploads"
	case r.Method == http.MethodPut && len(q) == 0, r.Method == http.MethodPut && q.Get("x-id") == "PutObject":
		return "PutObject"
	case r.Method == http.MethodHead:
		return "HeadObject"
	}
	return ""
}

// On matches the requests for some S3 operations.
func On(operations ...string) func(*http.Request) bool {
	return func(r *http.Request) bool { return slices.Contains(operations, Operation(r)) }
}
